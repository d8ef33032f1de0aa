// Package architecture holds no code: its tests hold the tree to the dependency rule and the habits that
// a reader relies on. Services meet only through protobuf and topics; domain packages know no Kafka,
// gRPC, HTTP, database or clock; every package says what it promises.
package architecture

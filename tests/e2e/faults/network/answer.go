package network

import (
	"reflect"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// Refuse is the answer of a broker that did nothing about a request of the transaction protocol (or a
// Produce) but to say err, for every partition that was asked for.
func Refuse(req kmsg.Request, err *kerr.Error) kmsg.Response {
	resp := req.ResponseKind()
	switch r := resp.(type) {
	case *kmsg.TxnOffsetCommitResponse:
		if asked, ok := req.(*kmsg.TxnOffsetCommitRequest); ok {
			refuseOffsets(asked, r)
		}
	case *kmsg.AddPartitionsToTxnResponse:
		if asked, ok := req.(*kmsg.AddPartitionsToTxnRequest); ok {
			refuseAdding(asked, r)
		}
	case *kmsg.ProduceResponse:
		if asked, ok := req.(*kmsg.ProduceRequest); ok {
			refuseProduce(asked, r)
		}
	}
	setErrors(resp, err)
	return resp
}

func refuseOffsets(req *kmsg.TxnOffsetCommitRequest, resp *kmsg.TxnOffsetCommitResponse) {
	for _, topic := range req.Topics {
		rt := kmsg.NewTxnOffsetCommitResponseTopic()
		rt.Topic, rt.TopicID = topic.Topic, topic.TopicID
		for _, p := range topic.Partitions {
			rp := kmsg.NewTxnOffsetCommitResponseTopicPartition()
			rp.Partition = p.Partition
			rt.Partitions = append(rt.Partitions, rp)
		}
		resp.Topics = append(resp.Topics, rt)
	}
}

func refuseAdding(req *kmsg.AddPartitionsToTxnRequest, resp *kmsg.AddPartitionsToTxnResponse) {
	for _, topic := range req.Topics {
		rt := kmsg.NewAddPartitionsToTxnResponseTopic()
		rt.Topic = topic.Topic
		for _, p := range topic.Partitions {
			rp := kmsg.NewAddPartitionsToTxnResponseTopicPartition()
			rp.Partition = p
			rt.Partitions = append(rt.Partitions, rp)
		}
		resp.Topics = append(resp.Topics, rt)
	}
}

func refuseProduce(req *kmsg.ProduceRequest, resp *kmsg.ProduceResponse) {
	for _, topic := range req.Topics {
		rt := kmsg.NewProduceResponseTopic()
		rt.Topic, rt.TopicID = topic.Topic, topic.TopicID
		for _, p := range topic.Partitions {
			rp := kmsg.NewProduceResponseTopicPartition()
			rp.Partition, rp.BaseOffset = p.Partition, -1
			rt.Partitions = append(rt.Partitions, rp)
		}
		resp.Topics = append(resp.Topics, rt)
	}
}

// setErrors writes the code of err to every error code in an answer.
func setErrors(resp kmsg.Response, err *kerr.Error) {
	var walk func(v reflect.Value)
	walk = func(v reflect.Value) {
		switch v.Kind() { //nolint:exhaustive // the others hold no fields
		case reflect.Pointer:
			if !v.IsNil() {
				walk(v.Elem())
			}
		case reflect.Slice:
			for i := range v.Len() {
				walk(v.Index(i))
			}
		case reflect.Struct:
			for i := range v.NumField() {
				switch field := v.Type().Field(i); {
				case !field.IsExported():
				case field.Name == "ErrorCode":
					v.Field(i).SetInt(int64(err.Code))
				default:
					walk(v.Field(i))
				}
			}
		}
	}
	walk(reflect.ValueOf(resp))
}

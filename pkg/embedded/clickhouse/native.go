package clickhouse

import (
	"bytes"
	"errors"
	"fmt"
	"io"

	chproto "github.com/ClickHouse/ch-go/proto"
	"github.com/ClickHouse/clickhouse-go/v2/lib/column"
	"github.com/ClickHouse/clickhouse-go/v2/lib/proto"
)

// transcodeNative turns blocks in the Native format as the library writes them (revision 0) into
// blocks at the revision that the client asked for. A client that asks for none, or for 0, gets
// the bytes as they are.
func transcodeNative(in []byte, revision uint64) ([]byte, error) {
	if revision == 0 {
		return in, nil
	}
	source := bytes.NewReader(in)
	reader := chproto.NewReader(source)
	out := &chproto.Buffer{Buf: make([]byte, 0, len(in)+64)}
	for {
		block := proto.Block{ServerContext: &column.ServerContext{}}
		err := block.Decode(reader, 0)
		if errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) && len(block.Columns) == 0 {
			return out.Buf, nil
		}
		if err != nil {
			return nil, exceptionf(codeNotImplemented, "NOT_IMPLEMENTED",
				"Cannot encode the result for client_protocol_version %d: %s; ask for another format or cast the column", revision, err)
		}
		if err := block.Encode(out, revision); err != nil {
			return nil, fmt.Errorf("encoding a Native block: %w", err)
		}
	}
}

// nativeHeader is a Native block without rows, which tells a client the columns of an empty result.
func nativeHeader(columns []columnType, revision uint64) ([]byte, error) {
	block := proto.Block{ServerContext: &column.ServerContext{}}
	for _, c := range columns {
		if err := block.AddColumn(c.name, column.Type(c.typ)); err != nil {
			return nil, fmt.Errorf("describing an empty result: %w", err)
		}
	}
	var out chproto.Buffer
	// A column without rows has no state prefix in the format, so the header is written by hand
	// down to the names and types.
	if revision > 0 {
		if err := (&proto.Block{}).EncodeHeader(&out, revision); err != nil {
			return nil, fmt.Errorf("encoding a Native header: %w", err)
		}
		out.Buf = out.Buf[:len(out.Buf)-2] // the counts of the empty block
	}
	out.PutUVarInt(uint64(len(columns)))
	out.PutUVarInt(0)
	for _, c := range columns {
		out.PutString(c.name)
		out.PutString(c.typ)
		if revision >= proto.DBMS_MIN_REVISION_WITH_CUSTOM_SERIALIZATION {
			out.PutBool(false)
		}
	}
	return out.Buf, nil
}

// columnType is a column of a result.
type columnType struct{ name, typ string }

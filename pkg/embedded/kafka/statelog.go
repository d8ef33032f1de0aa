package kafka

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io/fs"
	"os"
	"path/filepath"
)

// The broker keeps producers (pids.log) and groups (groups.log) as appended
// entries: length (uint32 little endian, of what follows the checksum), CRC-32C
// of the rest, version (uint16), JSON.
const (
	stateHeader  = 10
	stateVersion = 1
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// pidEntry is one entry of pids.log.
type pidEntry struct {
	Type    string `json:"type"` // init, endtx, timeout
	PID     int64  `json:"pid"`
	Epoch   int16  `json:"epoch"`
	TxID    string `json:"txid,omitempty"`
	Timeout int32  `json:"timeout,omitempty"`
	Commit  *bool  `json:"commit,omitempty"`
}

// groupCommit is a committed offset as an entry of groups.log.
type groupCommit struct {
	Type       string  `json:"type"` // commit
	Group      string  `json:"g"`
	Topic      string  `json:"t,omitempty"`
	Partition  int32   `json:"p,omitempty"`
	Offset     int64   `json:"o,omitempty"`
	Epoch      int32   `json:"e,omitempty"`
	Metadata   *string `json:"m,omitempty"`
	LastCommit *int64  `json:"lc,omitempty"` // Unix milliseconds
}

// stateEntry is the JSON of an entry and where the entry begins.
type stateEntry struct {
	at   int64
	data []byte
}

// readState splits a state log into its entries. It returns how many bytes of
// raw are whole entries; what follows is a write cut short.
func readState(raw []byte) (entries []stateEntry, valid int64) {
	pos := 0
	for pos+stateHeader <= len(raw) {
		length := int(binary.LittleEndian.Uint32(raw[pos:]))
		if length < 2 || length > len(raw)-pos-8 {
			break
		}
		body := raw[pos+8 : pos+8+length]
		if crc32.Checksum(body, castagnoli) != binary.LittleEndian.Uint32(raw[pos+4:]) {
			break
		}
		entries = append(entries, stateEntry{at: int64(pos), data: body[2:]})
		pos += 8 + length
	}
	return entries, int64(pos)
}

// appendState appends the entry of v to buf.
func appendState(buf []byte, v any) ([]byte, error) {
	data, err := json.Marshal(v)
	if err != nil {
		return buf, fmt.Errorf("encoding a state entry: %w", err)
	}
	at := len(buf)
	buf = binary.LittleEndian.AppendUint32(buf, uint32(2+len(data)))
	buf = append(buf, 0, 0, 0, 0)
	buf = binary.LittleEndian.AppendUint16(buf, stateVersion)
	buf = append(buf, data...)
	binary.LittleEndian.PutUint32(buf[at+4:], crc32.Checksum(buf[at+8:], castagnoli))
	return buf, nil
}

// replaceFile writes data beside path, syncs it and renames it over path: a
// reader sees the old file or the new one, whole.
func replaceFile(path string, data []byte) error {
	tmp := path + ".tmp"
	f, err := os.OpenFile(tmp, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("writing %s: %w", path, err)
	}
	_, err = f.Write(data)
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err == nil {
		err = os.Rename(tmp, path)
	}
	if err != nil {
		return fmt.Errorf("writing %s: %w", path, err)
	}
	return syncDir(filepath.Dir(path))
}

// syncDir makes renames and removals in a directory durable.
func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return fmt.Errorf("syncing %s: %w", dir, err)
	}
	if err := errors.Join(d.Sync(), d.Close()); err != nil {
		return fmt.Errorf("syncing %s: %w", dir, err)
	}
	return nil
}

// readIfExists reads a file; a missing one is empty.
func readIfExists(path string) ([]byte, error) {
	raw, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("reading %s: %w", path, err)
	}
	return raw, nil
}

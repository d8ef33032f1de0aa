package kafka

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
)

// topic is what topics.json says of a topic.
type topic struct {
	Name       string            `json:"name"`
	ID         []byte            `json:"id"` // base64 in the file
	Partitions int32             `json:"partitions"`
	Configs    map[string]string `json:"configs"`
}

func (t *topic) id() (id [16]byte) {
	copy(id[:], t.ID)
	return id
}

// topicTable finds topics by name and by id.
type topicTable struct {
	found  bool // the file is there
	list   []topic
	byName map[string]*topic
	byID   map[[16]byte]*topic
}

// readTopics reads the topics of a data directory.
func readTopics(dir string) (*topicTable, error) {
	raw, err := readIfExists(filepath.Join(dir, "topics.json"))
	if err != nil {
		return nil, err
	}
	var file struct {
		Topics []topic `json:"topics"`
	}
	if len(raw) > 0 {
		if err := json.Unmarshal(raw, &file); err != nil {
			return nil, fmt.Errorf("decoding %s: %w", filepath.Join(dir, "topics.json"), err)
		}
	}
	table := &topicTable{found: raw != nil, list: file.Topics, byName: make(map[string]*topic), byID: make(map[[16]byte]*topic)}
	for i := range table.list {
		t := &table.list[i]
		table.byName[t.Name], table.byID[t.id()] = t, t
	}
	return table, nil
}

// dropOrphans removes directories of partitions that no topic has: the process
// died while it deleted the topic, and a new topic of that name would go on in
// the old log.
func (tt *topicTable) dropOrphans(dir string) error {
	parts := filepath.Join(dir, "partitions")
	entries, err := os.ReadDir(parts)
	if err != nil {
		return ignoreMissing(err)
	}
	known := make(map[string]bool)
	for _, t := range tt.list {
		for p := range t.Partitions {
			known[filepath.Base(partitionDir(dir, t.Name, p))] = true
		}
	}
	for _, e := range entries {
		if known[e.Name()] {
			continue
		}
		if err := os.RemoveAll(filepath.Join(parts, e.Name())); err != nil {
			return fmt.Errorf("removing a deleted topic's partition: %w", err)
		}
	}
	return nil
}

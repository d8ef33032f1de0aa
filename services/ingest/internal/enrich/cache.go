package enrich

import (
	"strings"
	"sync"
)

// cache remembers at most twice limit values: when one generation is full the one before is forgotten, and
// what is used in between moves on. It is safe for concurrent use.
type cache[V any] struct {
	limit int

	mu          sync.Mutex // guards the rest
	now, before map[string]V
}

func (c *cache[V]) get(key string) (V, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if v, ok := c.now[key]; ok {
		return v, true
	}
	v, ok := c.before[key]
	if ok {
		c.add(strings.Clone(key), v)
	}
	return v, ok
}

// put keeps a value under a copy of key, which may view a body.
func (c *cache[V]) put(key string, v V) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.add(strings.Clone(key), v)
}

func (c *cache[V]) add(key string, v V) {
	if len(c.now) >= c.limit || c.now == nil {
		c.before, c.now = c.now, make(map[string]V, c.limit/8)
	}
	c.now[key] = v
}

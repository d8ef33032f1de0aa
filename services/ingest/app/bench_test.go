package app_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/sillage-cdp/sillage/pkg/topics"
	"github.com/sillage-cdp/sillage/services/ingest/app"
)

// benchTrack is a track call as a browser sends it, about 1.1 kB; %s is the user.
const benchTrack = `{"timestamp":"2026-11-21T10:15:30.123Z","integrations":{},"type":"track","event":"Product Viewed","userId":"%s","anonymousId":"anon-%s","messageId":"ajs-next-1763719-0b5a6f9e-3a2b-4b57-9c7f-1f0d9f0b7a11","sentAt":"2026-11-21T10:15:30.456Z","properties":{"product_id":"507f1f77bcf86cd799439011","sku":"G-32","category":"Games","name":"Monopoly: 3rd Edition","brand":"Hasbro","variant":"200 pieces","price":18.99,"quantity":1,"coupon":"MAYDEALS","currency":"eur","position":3,"value":18.99,"url":"https://www.example.com/product/path","image_url":"https://www.example.com/product/path.jpg"},"context":{"page":{"path":"/product/path","referrer":"https://www.google.com/","search":"?q=monopoly","title":"Monopoly: 3rd Edition","url":"https://www.example.com/product/path?q=monopoly"},"userAgent":"Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/131.0.0.0 Safari/537.36","locale":"fr-FR","library":{"name":"analytics.js","version":"next-1.84.3"},"timezone":"Europe/Paris","campaign":{"name":"spring","source":"newsletter","medium":"email"}}}`

const connections = 64

// patient lets a busy machine take its time, and one visitor send all there is: a benchmark has no 503s and
// no 429s.
func patient(c *app.Config) {
	c.AckTimeout = 10 * time.Second
	c.MaxIdentityEventsPerSecond = 1e9
}

// BenchmarkPost is the rate and latency of single calls over 64 connections, answered after Kafka's
// acknowledgement (kfake in this process), beside the same server with an empty handler. Run it with
// -count to alternate the two. P1 is ingest's rate over empty's, P2 the same of their p99.
func BenchmarkPost(b *testing.B) {
	body := []byte(fmt.Sprintf(benchTrack, "u", "a"))
	b.Run("empty", func(b *testing.B) {
		load(b, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			_, _ = io.Copy(io.Discard, r.Body)
			_, _ = w.Write([]byte(`{"success":true}`))
		}), "/v1/track", body)
	})
	b.Run("ingest", func(b *testing.B) {
		s := start(b, startBroker(b).ListenAddrs(), patient)
		load(b, s.app.Handler(), "/v1/track", body)
	})
}

// BenchmarkBatch is the rate of batches of 100 events, beside raw produce of the same records (P3).
func BenchmarkBatch(b *testing.B) {
	items := make([]string, 100)
	for i := range items {
		user := fmt.Sprintf("user-%d", i)
		items[i] = fmt.Sprintf(benchTrack, user, user)
	}
	body := []byte(`{"batch":[` + strings.Join(items, ",") + `]}`)
	b.Run("ingest", func(b *testing.B) {
		s := start(b, startBroker(b).ListenAddrs(), patient)
		load(b, s.app.Handler(), "/v1/batch", body)
		b.ReportMetric(float64(100*b.N)/b.Elapsed().Seconds(), "events/s")
	})
	b.Run("produce", func(b *testing.B) {
		s := start(b, startBroker(b).ListenAddrs(), patient)
		require.Equal(b, 200, s.post("/v1/batch", webKey, string(body)).status)
		produce(b, s.brokers, records(b, s.brokers, topics.Events))
		b.ReportMetric(float64(100*b.N)/b.Elapsed().Seconds(), "events/s")
	})
}

// load posts b.N bodies over keep-alive connections, written and read by hand: the client must not be
// what is measured.
func load(b *testing.B, handler http.Handler, path string, body []byte) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(b, err)
	server := &http.Server{Handler: handler, ReadHeaderTimeout: time.Second}
	go func() { _ = server.Serve(listener) }()
	defer func() { require.NoError(b, server.Shutdown(context.Background())) }()
	request := []byte("POST " + path + " HTTP/1.1\r\nHost: x\r\nAuthorization: Basic d2tfd2ViXzAxMjM0NTY3ODk6\r\nContent-Length: " + fmt.Sprint(len(body)) + "\r\n\r\n")
	request = append(request, body...)
	todo := make(chan struct{}, b.N)
	for range b.N {
		todo <- struct{}{}
	}
	close(todo)
	var clients sync.WaitGroup
	var mu sync.Mutex
	var all []time.Duration
	used := processorTime(b)
	b.ResetTimer()
	for range connections {
		clients.Go(func() {
			took := client(b, listener.Addr().String(), request, todo)
			mu.Lock()
			defer mu.Unlock()
			all = append(all, took...)
		})
	}
	clients.Wait()
	b.StopTimer()
	b.ReportMetric(float64((processorTime(b)-used).Nanoseconds())/1000/float64(b.N), "cpu-µs/req")
	slices.Sort(all)
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "req/s")
	b.ReportMetric(float64(all[len(all)*99/100].Microseconds())/1000, "p99-ms")
}

// processorTime is what this process has used so far. Unlike the rate it hardly depends on what else the
// machine does; it includes the client and the broker.
func processorTime(b *testing.B) time.Duration {
	var usage syscall.Rusage
	require.NoError(b, syscall.Getrusage(syscall.RUSAGE_SELF, &usage))
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
}

func client(b *testing.B, addr string, request []byte, todo <-chan struct{}) []time.Duration {
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		b.Error(err)
		return nil
	}
	defer conn.Close()
	answer := make([]byte, 4096)
	var took []time.Duration
	for range todo {
		begun := time.Now()
		if _, err := conn.Write(request); err != nil {
			b.Error(err)
			return took
		}
		n, err := conn.Read(answer)
		if err != nil || !bytes.HasPrefix(answer[:n], []byte("HTTP/1.1 200")) {
			b.Errorf("answer %q, error %v", answer[:n], err)
			return took
		}
		took = append(took, time.Since(begun))
	}
	return took
}

// produce sends the same records b.N times, from as many goroutines as ingest has connections.
func produce(b *testing.B, brokers []string, batch []*kgo.Record) {
	client, err := kgo.NewClient(kgo.SeedBrokers(brokers...), kgo.MaxBufferedRecords(1<<20), kgo.ProducerBatchCompression(kgo.SnappyCompression()), kgo.ProducerLinger(0))
	require.NoError(b, err)
	defer client.Close()
	todo := make(chan struct{}, b.N)
	for range b.N {
		todo <- struct{}{}
	}
	close(todo)
	var clients sync.WaitGroup
	b.ResetTimer()
	for range min(connections, 8*runtime.GOMAXPROCS(0)) {
		clients.Go(func() {
			for range todo {
				copies := make([]*kgo.Record, len(batch))
				for i, r := range batch {
					copies[i] = &kgo.Record{Topic: r.Topic, Key: r.Key, Value: r.Value}
				}
				if err := client.ProduceSync(b.Context(), copies...).FirstErr(); err != nil {
					b.Error(err)
				}
			}
		})
	}
	clients.Wait()
	b.StopTimer()
}

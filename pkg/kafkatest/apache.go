package kafkatest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// EnvJars is the environment variable that names the folder with Apache
// Kafka's jars, when it is not .engines/kafka in a parent of the working
// directory.
const EnvJars = "SILLAGE_KAFKA_JARS"

const (
	clusterID    = "c2lsbGFnZS10ZXN0cy0wMA"
	startTimeout = 60 * time.Second
	stopTimeout  = 20 * time.Second
)

// ApacheOptions tune an Apache Kafka node; the zero value is a good node for
// tests.
type ApacheOptions struct {
	// Dir holds the node's log and its output. Default: a new temporary
	// directory, removed with the test.
	Dir string
	// Heap is the Java heap limit, as -Xmx takes it. Default: 512m.
	Heap string
	// Config adds broker properties or replaces the default ones.
	Config map[string]string
}

// Apache is one running Apache Kafka node.
type Apache struct {
	java   string
	jars   string
	dir    string
	heap   string
	config map[string]string

	// ephemeral has the directory removed when the process ends.
	ephemeral bool

	port, controllerPort int

	mu    sync.Mutex
	cmd   *exec.Cmd
	stdin io.WriteCloser
	done  chan struct{} // closed when the process is gone
}

// StartApache starts a node of its own for the test and stops it when the test
// ends. It fails the test, with the command that mends it, if java or Kafka's
// jars are missing.
func StartApache(t testing.TB, opts ApacheOptions) *Apache {
	t.Helper()
	if opts.Dir == "" {
		opts.Dir = t.TempDir()
	}
	a, err := startApache(opts, false)
	require.NoError(t, err)
	t.Cleanup(func() {
		a.halt()
		if t.Failed() {
			t.Logf("Apache Kafka wrote at last:\n%s", a.tail())
		}
	})
	return a
}

// sharedApache starts the node that all tests of the process use.
var sharedApache = sync.OnceValues(func() (*Apache, error) {
	dir, err := os.MkdirTemp("", "sillage-kafka-")
	if err != nil {
		return nil, fmt.Errorf("making Apache Kafka's directory: %w", err)
	}
	return startApache(ApacheOptions{Dir: dir}, true)
})

// SharedApache returns the one node that all tests of this process share. It
// starts on first use and ends, its directory with it, when the process ends:
// do not stop it.
func SharedApache(t testing.TB) *Apache {
	t.Helper()
	a, err := sharedApache()
	require.NoError(t, err)
	return a
}

func startApache(opts ApacheOptions, ephemeral bool) (*Apache, error) {
	java, err := exec.LookPath("java")
	if err != nil {
		return nil, errors.New("java is not on the PATH: Apache Kafka needs Java 17 or newer (on Debian: apt install openjdk-17-jre-headless)")
	}
	jars, err := findJars()
	if err != nil {
		return nil, err
	}
	a := &Apache{java: java, jars: jars, dir: opts.Dir, heap: opts.Heap, config: opts.Config, ephemeral: ephemeral}
	if a.heap == "" {
		a.heap = "512m"
	}
	// A free port can be taken by another process before Kafka binds it.
	for attempt := 0; ; attempt++ {
		if err = a.format(); err == nil {
			err = a.Restart()
		}
		if err == nil || attempt == 2 || !strings.Contains(err.Error(), "Address already in use") {
			return a, err
		}
	}
}

// findJars looks for the folder with Kafka's jars.
func findJars() (string, error) {
	if dir := os.Getenv(EnvJars); dir != "" {
		if !hasKafka(dir) {
			return "", fmt.Errorf("%s is %q, which holds no kafka_*.jar: run \"make engines-kafka\" or correct the path", EnvJars, dir)
		}
		return dir, nil
	}
	wd, err := os.Getwd()
	if err != nil {
		return "", fmt.Errorf("looking for Apache Kafka's jars: %w", err)
	}
	for dir := wd; ; dir = filepath.Dir(dir) {
		if jars := filepath.Join(dir, ".engines", "kafka"); hasKafka(jars) {
			return jars, nil
		}
		if dir == filepath.Dir(dir) {
			return "", fmt.Errorf("Apache Kafka's jars are not in .engines/kafka of %s or a parent: run \"make engines-kafka\", or name their folder in %s", wd, EnvJars)
		}
	}
}

func hasKafka(dir string) bool {
	found, err := filepath.Glob(filepath.Join(dir, "kafka_*.jar"))
	return err == nil && len(found) > 0
}

// Brokers returns the addresses to bootstrap from. They stay the same over
// [Apache.Restart].
func (a *Apache) Brokers() []string {
	return []string{fmt.Sprintf("127.0.0.1:%d", a.port)}
}

// LogFile is the path of the node's own output, for a look after a failure.
func (a *Apache) LogFile() string { return filepath.Join(a.dir, "kafka.log") }

// format picks ports, writes the node's configuration and formats its storage.
func (a *Apache) format() error {
	var err error
	if a.port, err = freePort(); err != nil {
		return err
	}
	if a.controllerPort, err = freePort(); err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(a.dir, "server.properties"), []byte(a.properties()), 0o600); err != nil {
		return fmt.Errorf("writing Apache Kafka's configuration: %w", err)
	}
	if err := os.WriteFile(filepath.Join(a.dir, "log4j2.properties"), []byte(log4j2), 0o600); err != nil {
		return fmt.Errorf("writing Apache Kafka's log configuration: %w", err)
	}
	if err := os.RemoveAll(filepath.Join(a.dir, "data")); err != nil {
		return fmt.Errorf("clearing Apache Kafka's storage: %w", err)
	}
	cmd := exec.CommandContext(context.Background(), a.java, append(a.javaFlags(), "kafka.tools.StorageTool", "format", "--standalone",
		"-t", clusterID, "-c", filepath.Join(a.dir, "server.properties"))...)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("formatting Apache Kafka's storage: %w\n%s", err, out)
	}
	return nil
}

// log4j2 keeps the node quiet: warnings only, to standard output.
const log4j2 = `status = error
rootLogger.level = warn
rootLogger.appenderRefs = stdout
rootLogger.appenderRef.stdout.ref = STDOUT
appender.stdout.type = Console
appender.stdout.name = STDOUT
appender.stdout.layout.type = PatternLayout
appender.stdout.layout.pattern = [%d] %p %m (%c)%n
`

// properties renders server.properties: one node that is broker and
// controller, every internal topic with a single replica.
func (a *Apache) properties() string {
	broker := fmt.Sprintf("127.0.0.1:%d", a.port)
	controller := fmt.Sprintf("127.0.0.1:%d", a.controllerPort)
	props := map[string]string{
		"process.roles":                                    "broker,controller",
		"node.id":                                          "1",
		"controller.quorum.bootstrap.servers":              controller,
		"listeners":                                        "PLAINTEXT://" + broker + ",CONTROLLER://" + controller,
		"advertised.listeners":                             "PLAINTEXT://" + broker + ",CONTROLLER://" + controller,
		"controller.listener.names":                        "CONTROLLER",
		"listener.security.protocol.map":                   "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT",
		"log.dirs":                                         filepath.Join(a.dir, "data"),
		"default.replication.factor":                       "1",
		"num.partitions":                                   "4",
		"offsets.topic.replication.factor":                 "1",
		"offsets.topic.num.partitions":                     "4",
		"transaction.state.log.replication.factor":         "1",
		"transaction.state.log.min.isr":                    "1",
		"transaction.state.log.num.partitions":             "4",
		"share.coordinator.state.topic.replication.factor": "1",
		"share.coordinator.state.topic.min.isr":            "1",
		"group.initial.rebalance.delay.ms":                 "0",
		"log.segment.bytes":                                "16777216",
		"log.cleaner.dedupe.buffer.size":                   "16777216",
		"num.network.threads":                              "2",
		"num.io.threads":                                   "4",
		"background.threads":                               "2",
	}
	maps.Copy(props, a.config)
	var b strings.Builder
	for _, k := range slices.Sorted(maps.Keys(props)) {
		fmt.Fprintf(&b, "%s=%s\n", k, props[k])
	}
	return b.String()
}

func (a *Apache) javaFlags() []string {
	return []string{
		"-Xmx" + a.heap, "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Xshare:auto",
		"-Dlog4j2.configurationFile=file:" + filepath.Join(a.dir, "log4j2.properties"),
		"-cp", filepath.Join(a.jars, "*"),
	}
}

// Restart starts the node again on the same ports and log, after [Apache.Stop]
// or [Apache.Kill], and returns when it answers.
func (a *Apache) Restart() error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.cmd != nil {
		return errors.New("Apache Kafka is running already: call Stop or Kill before Restart")
	}
	out, err := os.OpenFile(a.LogFile(), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("opening Apache Kafka's output file: %w", err)
	}
	defer func() { _ = out.Close() }() // the program has its own descriptor

	// The node runs until Stop or Kill. The shell becomes java; its background job ends java once the pipe
	// from this process closes, however this process ends.
	args := append([]string{"-c", `exec 3<&0; (cat <&3 >/dev/null; kill -9 $$ 2>/dev/null; [ -z "$REMOVE" ] || rm -rf "$REMOVE") & exec "$@" 3<&- </dev/null`, "sh", a.java}, a.javaFlags()...)
	cmd := exec.CommandContext(context.Background(), "sh", append(args, "kafka.Kafka", filepath.Join(a.dir, "server.properties"))...)
	cmd.Stdout, cmd.Stderr = out, out
	if a.ephemeral {
		cmd.Env = append(os.Environ(), "REMOVE="+a.dir)
	}
	stdin, err := cmd.StdinPipe()
	if err != nil {
		return fmt.Errorf("starting Apache Kafka: %w", err)
	}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("starting Apache Kafka: %w", err)
	}
	a.cmd, a.stdin, a.done = cmd, stdin, make(chan struct{})
	go a.reap(cmd, a.done)
	if err := a.waitReady(); err != nil {
		a.end(syscall.SIGKILL)
		return err
	}
	return nil
}

// reap waits for the node's process. Tests that look for leaked goroutines
// know it by this name, since a shared node lives as long as they do.
func (a *Apache) reap(cmd *exec.Cmd, done chan<- struct{}) {
	defer close(done)
	_ = cmd.Wait() // the exit state of a broker that was told to end says nothing
}

// Stop ends the node cleanly and waits for it; it kills one that does not end
// in time. Stopping a stopped node does nothing.
func (a *Apache) Stop() { a.signal(syscall.SIGTERM) }

// Kill ends the node with SIGKILL, as a power cut would, and waits until the
// process is gone.
func (a *Apache) Kill() { a.signal(syscall.SIGKILL) }

// halt is the clean-up at the end of a test: nobody reads the log any more.
func (a *Apache) halt() { a.Kill() }

func (a *Apache) signal(sig syscall.Signal) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.end(sig)
}

// end signals the process and waits for its end; the caller holds the lock.
func (a *Apache) end(sig syscall.Signal) {
	if a.cmd == nil {
		return
	}
	_ = a.cmd.Process.Signal(sig)
	select {
	case <-a.done:
	case <-time.After(stopTimeout):
		_ = a.cmd.Process.Kill()
		<-a.done
	}
	_ = a.stdin.Close()
	a.cmd, a.stdin = nil, nil
}

// waitReady waits until the broker serves its metadata.
func (a *Apache) waitReady() error {
	deadline := time.NewTimer(startTimeout)
	defer deadline.Stop()
	poll := time.NewTicker(50 * time.Millisecond)
	defer poll.Stop()
	for {
		if answers(a.Brokers()) {
			return nil
		}
		select {
		case <-a.done:
			return fmt.Errorf("Apache Kafka ended while it started:\n%s", a.tail())
		case <-deadline.C:
			return fmt.Errorf("Apache Kafka was not ready after %s:\n%s", startTimeout, a.tail())
		case <-poll.C:
		}
	}
}

// tail returns the end of the node's output.
func (a *Apache) tail() string {
	const most = 4096
	out, err := os.ReadFile(a.LogFile())
	if err != nil {
		return err.Error()
	}
	return string(out[max(0, len(out)-most):])
}

func freePort() (int, error) {
	var socket net.ListenConfig
	l, err := socket.Listen(context.Background(), "tcp", "127.0.0.1:0")
	if err != nil {
		return 0, fmt.Errorf("looking for a free port: %w", err)
	}
	at, err := netip.ParseAddrPort(l.Addr().String())
	if err := errors.Join(err, l.Close()); err != nil {
		return 0, fmt.Errorf("looking for a free port: %w", err)
	}
	return int(at.Port()), nil
}

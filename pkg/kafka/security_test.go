package kafka_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/sillage-cdp/sillage/pkg/kafka"
)

// authority makes certificates for one test.
type authority struct {
	t    *testing.T
	dir  string
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func newAuthority(t *testing.T) *authority {
	t.Helper()
	a := &authority{t: t, dir: t.TempDir()}
	a.cert, a.key = a.sign(&x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test authority"}, IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageCertSign, NotAfter: time.Now().Add(time.Hour),
	}, "ca")
	return a
}

// leaf makes a certificate for 127.0.0.1 that both ends can use.
func (a *authority) leaf(name string) tls.Certificate {
	a.t.Helper()
	a.sign(&x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: name}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}, NotAfter: time.Now().Add(time.Hour),
	}, name)
	pair, err := tls.LoadX509KeyPair(a.path(name+".pem"), a.path(name+".key"))
	require.NoError(a.t, err)
	return pair
}

func (a *authority) path(name string) string { return filepath.Join(a.dir, name) }

func (a *authority) sign(template *x509.Certificate, name string) (*x509.Certificate, *ecdsa.PrivateKey) {
	a.t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(a.t, err)
	parent, signer := a.cert, a.key
	if parent == nil {
		parent, signer = template, key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, &key.PublicKey, signer)
	require.NoError(a.t, err)
	cert, err := x509.ParseCertificate(der)
	require.NoError(a.t, err)
	private, err := x509.MarshalPKCS8PrivateKey(key)
	require.NoError(a.t, err)
	for file, block := range map[string]*pem.Block{name + ".pem": {Type: "CERTIFICATE", Bytes: der}, name + ".key": {Type: "PRIVATE KEY", Bytes: private}} {
		require.NoError(a.t, os.WriteFile(a.path(file), pem.EncodeToMemory(block), 0o600))
	}
	return cert, key
}

// secured is a broker that wants a certificate of the authority and one of three users.
func (a *authority) secured() []string {
	a.t.Helper()
	pool := x509.NewCertPool()
	pool.AddCert(a.cert)
	cluster, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.SeedTopics(1, "t"), kfake.EnableSASL(),
		kfake.TLS(&tls.Config{MinVersion: tls.VersionTLS12, Certificates: []tls.Certificate{a.leaf("broker")}, ClientCAs: pool, ClientAuth: tls.RequireAndVerifyClientCert}),
		kfake.Superuser("PLAIN", "plain", "secret"), kfake.Superuser("SCRAM-SHA-256", "s256", "secret"), kfake.Superuser("SCRAM-SHA-512", "s512", "secret"))
	require.NoError(a.t, err)
	a.t.Cleanup(cluster.Close)
	return cluster.ListenAddrs()
}

func TestBrokersWithTLSAndSASL(t *testing.T) {
	a := newAuthority(t)
	a.leaf("client")
	require.NoError(t, os.WriteFile(a.path("password"), []byte("secret\n"), 0o600))
	brokers := a.secured()
	for user, mechanism := range map[string]string{"plain": "PLAIN", "s256": "SCRAM-SHA-256", "s512": "SCRAM-SHA-512"} {
		cfg := kafka.NewDefaultConfig()
		cfg.Brokers = brokers
		cfg.TLS = kafka.TLS{Enabled: true, CAFile: a.path("ca.pem"), CertFile: a.path("client.pem"), KeyFile: a.path("client.key")}
		cfg.SASL = kafka.SASL{Mechanism: mechanism, Username: user, PasswordRef: "file:" + a.path("password")}
		require.NoError(t, cfg.Validate())
		client, err := kgo.NewClient(cfg.ProducerOptions(quiet())...)
		require.NoError(t, err)
		require.NoError(t, client.ProduceSync(t.Context(), &kgo.Record{Topic: "t", Value: []byte(mechanism)}).FirstErr())
		client.Close()

		for name, change := range map[string]func(*kafka.Config){
			"another authority":    func(c *kafka.Config) { c.TLS.CAFile = newAuthority(t).path("ca.pem") },
			"another name":         func(c *kafka.Config) { c.TLS.ServerName = "elsewhere.example" },
			"no certificate":       func(c *kafka.Config) { c.TLS.CertFile, c.TLS.KeyFile = "", "" },
			"in the clear":         func(c *kafka.Config) { c.TLS = kafka.TLS{} },
			"another user":         func(c *kafka.Config) { c.SASL.Username = "nobody" },
			"nobody":               func(c *kafka.Config) { c.SASL = kafka.SASL{} },
			"a password that left": func(c *kafka.Config) { c.SASL.PasswordRef = "file:" + a.path("gone") },
		} {
			wrong := cfg
			change(&wrong)
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			require.Error(t, wrong.Ping(ctx, quiet()), "%s by %s", name, mechanism)
			cancel()
		}
	}
}

// TestReplacedFilesAreUsed: authority, certificate and password of a client that runs are read for each
// connection.
func TestReplacedFilesAreUsed(t *testing.T) {
	a, before, dir := newAuthority(t), newAuthority(t), t.TempDir()
	a.leaf("client")
	before.leaf("client")
	file := func(name string) string { return filepath.Join(dir, name) }
	replace := func(from *authority, names ...string) {
		for _, name := range names {
			text, err := os.ReadFile(from.path(name))
			require.NoError(t, err)
			require.NoError(t, os.WriteFile(file(name), text, 0o600))
		}
	}
	replace(before, "ca.pem", "client.pem", "client.key")
	require.NoError(t, os.WriteFile(file("password"), []byte("of yesterday"), 0o600))
	cfg := kafka.NewDefaultConfig()
	cfg.Brokers = a.secured()
	cfg.TLS = kafka.TLS{Enabled: true, CAFile: file("ca.pem"), CertFile: file("client.pem"), KeyFile: file("client.key")}
	cfg.SASL = kafka.SASL{Mechanism: "SCRAM-SHA-512", Username: "s512", PasswordRef: "file:" + file("password")}
	client, err := kgo.NewClient(cfg.Options(quiet())...)
	require.NoError(t, err)
	defer client.Close()
	refused := func(why string) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		require.Error(t, client.Ping(ctx), why)
	}
	refused("authority of yesterday")
	replace(a, "ca.pem")
	refused("certificate of yesterday")
	replace(a, "client.pem", "client.key")
	refused("password of yesterday")
	require.NoError(t, os.WriteFile(file("password"), []byte("secret"), 0o600))
	require.NoError(t, client.Ping(t.Context()))
}

func TestValidateNamesTheSecuritySetting(t *testing.T) {
	empty := filepath.Join(t.TempDir(), "empty.pem")
	require.NoError(t, os.WriteFile(empty, nil, 0o600))
	for want, change := range map[string]func(*kafka.Config){
		"kafka.tls.enabled":       func(c *kafka.Config) { c.TLS.CAFile = "ca.pem" },
		"kafka.tls.ca_file":       func(c *kafka.Config) { c.TLS = kafka.TLS{Enabled: true, CAFile: empty} },
		"kafka.tls.key_file":      func(c *kafka.Config) { c.TLS = kafka.TLS{Enabled: true, CertFile: "client.pem"} },
		"kafka.tls.cert_file":     func(c *kafka.Config) { c.TLS = kafka.TLS{Enabled: true, CertFile: empty, KeyFile: empty} },
		"kafka.sasl.mechanism":    func(c *kafka.Config) { c.SASL = kafka.SASL{Mechanism: "GSSAPI", Username: "u", PasswordRef: "env:P"} },
		"set kafka.tls.enabled":   func(c *kafka.Config) { c.SASL = kafka.SASL{Mechanism: "PLAIN", Username: "u", PasswordRef: "env:P"} },
		"kafka.sasl.username":     func(c *kafka.Config) { c.SASL = kafka.SASL{Mechanism: "SCRAM-SHA-256", PasswordRef: "env:P"} },
		"kafka.sasl.password_ref": func(c *kafka.Config) { c.SASL = kafka.SASL{Mechanism: "SCRAM-SHA-256", Username: "u"} },
		"mechanism: is missing":   func(c *kafka.Config) { c.SASL = kafka.SASL{Username: "u"} },
	} {
		cfg := kafka.NewDefaultConfig()
		require.NoError(t, cfg.Validate())
		change(&cfg)
		require.ErrorContains(t, cfg.Validate(), want)
	}
}

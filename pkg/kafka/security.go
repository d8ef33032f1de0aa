package kafka

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"os"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/sasl/plain"
	"github.com/twmb/franz-go/pkg/sasl/scram"

	"github.com/sillage-cdp/sillage/pkg/secret"
)

// TLS says how connections to the brokers are encrypted. Files are read anew for each connection: one that
// has been replaced is used without a restart.
type TLS struct {
	// Enabled encrypts, and checks the brokers' certificates.
	Enabled bool `koanf:"enabled"`
	// CAFile holds the certificates, in PEM, that a broker's must descend from; empty: those of the system.
	CAFile string `koanf:"ca_file"`
	// CertFile and KeyFile are this client's own certificate and key, in PEM; empty: it has none.
	CertFile string `koanf:"cert_file"`
	KeyFile  string `koanf:"key_file"`
	// ServerName is the name that a broker's certificate must have; empty: the host that was dialled.
	ServerName string `koanf:"server_name"`
}

// SASL says as whom the brokers are asked.
type SASL struct {
	// Mechanism is PLAIN, SCRAM-SHA-256 or SCRAM-SHA-512; empty: the brokers ask for no name.
	Mechanism string `koanf:"mechanism"`
	Username  string `koanf:"username"`
	// PasswordRef is `env:NAME` or `file:PATH`, and read anew for each connection.
	PasswordRef string `koanf:"password_ref"`
}

const (
	mechanismPlain     = "PLAIN"
	mechanismScramS256 = "SCRAM-SHA-256"
	mechanismScramS512 = "SCRAM-SHA-512"
)

func (t TLS) validate() error {
	var errs []error
	if !t.Enabled && t != (TLS{}) {
		errs = append(errs, errors.New("kafka.tls.enabled: is false, but other settings of kafka.tls are given"))
	}
	if (t.CertFile == "") != (t.KeyFile == "") {
		errs = append(errs, errors.New("kafka.tls.cert_file, kafka.tls.key_file: one is of no use without the other"))
	}
	if t.Enabled {
		if _, err := t.config(""); err != nil {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

func (s SASL) validate(encrypted bool) error {
	var errs []error
	switch s.Mechanism {
	case "":
		if s != (SASL{}) {
			errs = append(errs, fmt.Errorf("kafka.sasl.mechanism: is missing; write %s, %s or %s", mechanismPlain, mechanismScramS256, mechanismScramS512))
		}
		return errors.Join(errs...)
	case mechanismPlain:
		if !encrypted {
			errs = append(errs, errors.New("kafka.sasl.mechanism: PLAIN shows the password to the network; set kafka.tls.enabled, or use SCRAM"))
		}
	case mechanismScramS256, mechanismScramS512:
	default:
		errs = append(errs, fmt.Errorf("kafka.sasl.mechanism: %q is none of %s, %s, %s", s.Mechanism, mechanismPlain, mechanismScramS256, mechanismScramS512))
	}
	if s.Username == "" {
		errs = append(errs, errors.New("kafka.sasl.username: is missing"))
	}
	if s.PasswordRef == "" {
		errs = append(errs, errors.New("kafka.sasl.password_ref: is missing; write env:NAME or file:PATH"))
	} else if err := secret.Check(s.PasswordRef); err != nil {
		errs = append(errs, fmt.Errorf("kafka.sasl.password_ref: %w", err))
	}
	return errors.Join(errs...)
}

// dial connects to a broker. A file that cannot be read shows here, by the name of its setting.
func (t TLS) dial(ctx context.Context, network, addr string) (net.Conn, error) {
	host, _, err := net.SplitHostPort(addr)
	if err != nil {
		return nil, err
	}
	cfg, err := t.config(host)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, dialTimeout) // of the handshake, too
	defer cancel()
	return (&tls.Dialer{Config: cfg}).DialContext(ctx, network, addr)
}

func (t TLS) config(host string) (*tls.Config, error) {
	cfg := &tls.Config{MinVersion: tls.VersionTLS12, ServerName: host}
	if t.ServerName != "" {
		cfg.ServerName = t.ServerName
	}
	if t.CAFile != "" {
		pem, err := os.ReadFile(t.CAFile)
		if err != nil {
			return nil, fmt.Errorf("kafka.tls.ca_file: %w", err)
		}
		cfg.RootCAs = x509.NewCertPool()
		if !cfg.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("kafka.tls.ca_file: %s holds no certificate in PEM", t.CAFile)
		}
	}
	if t.CertFile != "" && t.KeyFile != "" {
		pair, err := tls.LoadX509KeyPair(t.CertFile, t.KeyFile)
		if err != nil {
			return nil, fmt.Errorf("kafka.tls.cert_file, kafka.tls.key_file: %w", err)
		}
		cfg.Certificates = []tls.Certificate{pair}
	}
	return cfg, nil
}

func (s SASL) options() []kgo.Opt {
	switch s.Mechanism {
	case mechanismPlain:
		return []kgo.Opt{kgo.SASL(plain.Plain(func(context.Context) (plain.Auth, error) {
			password, err := s.password()
			return plain.Auth{User: s.Username, Pass: password}, err
		}))}
	case mechanismScramS256:
		return []kgo.Opt{kgo.SASL(scram.Sha256(s.scram))}
	case mechanismScramS512:
		return []kgo.Opt{kgo.SASL(scram.Sha512(s.scram))}
	default:
		return nil
	}
}

func (s SASL) scram(context.Context) (scram.Auth, error) {
	password, err := s.password()
	return scram.Auth{User: s.Username, Pass: password}, err
}

func (s SASL) password() (string, error) {
	value, err := secret.Resolve(s.PasswordRef)
	if err != nil {
		return "", fmt.Errorf("kafka.sasl.password_ref: %w", err)
	}
	return value.Reveal(), nil
}

package cli

import "github.com/sillage-cdp/sillage/pkg/kafka"

// brokers say which Kafka a command reads: that of sillage up, unless a file, the environment or a flag
// names another.
type brokers struct {
	Config string   `help:"YAML file with settings, of which kafka's are used: brokers, TLS, SASL." type:"path" placeholder:"FILE"`
	Kafka  []string `name:"kafka" help:"Kafka brokers; by default those of the settings, or of sillage up." placeholder:"HOST:PORT"`
}

// use is how the brokers are reached.
func (b *brokers) use() (kafka.Config, error) {
	settings, err := (&stackFlags{Config: b.Config, Kafka: b.Kafka}).load(nil)
	if err != nil {
		return kafka.Config{}, err
	}
	return settings.KafkaInUse(), nil
}

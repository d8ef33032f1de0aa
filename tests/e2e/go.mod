module github.com/sillage-cdp/sillage/tests/e2e

go 1.26.0

require (
	github.com/sillage-cdp/sillage/pkg v0.0.0
	github.com/sillage-cdp/sillage/proto v0.0.0
	github.com/stretchr/testify v1.12.1
	go.opentelemetry.io/proto/otlp v1.11.0
	go.uber.org/goleak v1.3.0
	google.golang.org/grpc v1.85.0
)

require (
	github.com/grpc-ecosystem/grpc-gateway/v2 v2.30.0 // indirect
	github.com/klauspost/compress v1.20.3 // indirect
	github.com/pierrec/lz4/v4 v4.1.33 // indirect
	github.com/planetscale/vtprotobuf v0.6.1-0.20240319094008-0393e58bdf10 // indirect
	github.com/twmb/franz-go v1.22.2 // indirect
	github.com/twmb/franz-go/pkg/kadm v1.18.0 // indirect
	github.com/twmb/franz-go/pkg/kfake v0.0.0-20260918054303-01f206a7e32c // indirect
	github.com/twmb/franz-go/pkg/kmsg v1.15.0 // indirect
	go.yaml.in/yaml/v3 v3.0.5 // indirect
	golang.org/x/crypto v0.58.0 // indirect
	golang.org/x/net v0.61.0 // indirect
	golang.org/x/sys v0.49.0 // indirect
	golang.org/x/text v0.43.0 // indirect
	google.golang.org/genproto/googleapis/api v0.0.0-20260928230214-8a89bd6388cc // indirect
	google.golang.org/genproto/googleapis/rpc v0.0.0-20260928230214-8a89bd6388cc // indirect
	google.golang.org/protobuf v1.36.12 // indirect
)

replace (
	github.com/sillage-cdp/sillage/pkg => ../../pkg
	github.com/sillage-cdp/sillage/proto => ../../proto
	github.com/sillage-cdp/sillage/services/analytics => ../../services/analytics
	github.com/sillage-cdp/sillage/services/channel-connector => ../../services/channel-connector
	github.com/sillage-cdp/sillage/services/control => ../../services/control
	github.com/sillage-cdp/sillage/services/decision => ../../services/decision
	github.com/sillage-cdp/sillage/services/identity => ../../services/identity
	github.com/sillage-cdp/sillage/services/ingest => ../../services/ingest
	github.com/sillage-cdp/sillage/services/journey-orchestrator => ../../services/journey-orchestrator
	github.com/sillage-cdp/sillage/services/scoring => ../../services/scoring
	github.com/sillage-cdp/sillage/services/segmentation => ../../services/segmentation
	github.com/sillage-cdp/sillage/services/sillage => ../../services/sillage
)

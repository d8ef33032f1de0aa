module github.com/sillage-cdp/sillage/tests/e2e

go 1.26.0

require (
	github.com/sillage-cdp/sillage/pkg v0.0.0
	github.com/sillage-cdp/sillage/proto v0.0.0
	github.com/sillage-cdp/sillage/services/ingest v0.0.0
	github.com/sillage-cdp/sillage/services/identity v0.0.0
	github.com/sillage-cdp/sillage/services/segmentation v0.0.0
	github.com/sillage-cdp/sillage/services/scoring v0.0.0
	github.com/sillage-cdp/sillage/services/journey-orchestrator v0.0.0
	github.com/sillage-cdp/sillage/services/channel-connector v0.0.0
	github.com/sillage-cdp/sillage/services/analytics v0.0.0
	github.com/sillage-cdp/sillage/services/decision v0.0.0
	github.com/sillage-cdp/sillage/services/control v0.0.0
	github.com/sillage-cdp/sillage/services/sillage v0.0.0
)

replace (
	github.com/sillage-cdp/sillage/pkg => ../../pkg
	github.com/sillage-cdp/sillage/proto => ../../proto
	github.com/sillage-cdp/sillage/services/ingest => ../../services/ingest
	github.com/sillage-cdp/sillage/services/identity => ../../services/identity
	github.com/sillage-cdp/sillage/services/segmentation => ../../services/segmentation
	github.com/sillage-cdp/sillage/services/scoring => ../../services/scoring
	github.com/sillage-cdp/sillage/services/journey-orchestrator => ../../services/journey-orchestrator
	github.com/sillage-cdp/sillage/services/channel-connector => ../../services/channel-connector
	github.com/sillage-cdp/sillage/services/analytics => ../../services/analytics
	github.com/sillage-cdp/sillage/services/decision => ../../services/decision
	github.com/sillage-cdp/sillage/services/control => ../../services/control
	github.com/sillage-cdp/sillage/services/sillage => ../../services/sillage
)

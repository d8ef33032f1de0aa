module github.com/sillage-cdp/sillage/services/scoring

go 1.26.0

require (
	github.com/sillage-cdp/sillage/pkg v0.0.0
	github.com/sillage-cdp/sillage/proto v0.0.0
)

replace (
	github.com/sillage-cdp/sillage/pkg => ../../pkg
	github.com/sillage-cdp/sillage/proto => ../../proto
)

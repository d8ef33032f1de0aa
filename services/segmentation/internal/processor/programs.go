package processor

import (
	"context"
	"log/slog"

	"github.com/sillage-cdp/sillage/pkg/definition"
	"github.com/sillage-cdp/sillage/pkg/stage"
	"github.com/sillage-cdp/sillage/services/segmentation/internal/condition"
)

// Programs are the segments of each tenant, compiled.
type Programs = stage.Compiled[*condition.Program]

// NewPrograms returns programs over the definitions that a provider gives. What cannot be compiled is
// logged and left out.
func NewPrograms(definitions definition.Provider, logger *slog.Logger) *Programs {
	return stage.NewCompiled(definitions, func(tenant string, snapshot *definition.Snapshot) *condition.Program {
		compiled := condition.Compile(snapshot.Segments(tenant))
		for name, err := range compiled.Broken {
			logger.LogAttrs(context.Background(), slog.LevelError, "a segment cannot be compiled and is not evaluated",
				slog.String("tenant", tenant), slog.String("segment", name), slog.Any("error", err))
		}
		return compiled
	})
}

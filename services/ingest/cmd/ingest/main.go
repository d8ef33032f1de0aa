// Command ingest runs the ingest service on its own.
package main

import (
	"os"

	"github.com/sillage-cdp/sillage/pkg/service"
	"github.com/sillage-cdp/sillage/services/ingest/app"
)

func main() {
	settings := app.NewDefaultConfig()
	os.Exit(service.Main(service.Spec[*app.Config]{Name: "ingest", Settings: &settings, Build: build}))
}

func build(cfg *app.Config, env service.Env) (service.Parts, error) {
	a, err := app.New(*cfg, app.Deps{
		Kafka: env.Kafka, Definitions: env.Definitions, Clock: env.Clock, Logger: env.Logger, Telemetry: env.Telemetry,
	})
	if err != nil {
		return service.Parts{}, err
	}
	return service.Parts{App: a, Handler: a.Handler(), RegisterGRPC: a.RegisterGRPC}, nil
}

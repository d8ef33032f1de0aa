// Command decision runs the decision service on its own.
package main

import (
	"os"

	"github.com/sillage-cdp/sillage/pkg/service"
	"github.com/sillage-cdp/sillage/services/decision/app"
)

func main() {
	settings := app.NewDefaultConfig()
	os.Exit(service.Main(service.Spec[*app.Config]{Name: "decision", Settings: &settings, Build: build}))
}

func build(cfg *app.Config, env service.Env) (service.Parts, error) {
	a, err := app.New(*cfg, app.Deps{
		Kafka: env.Kafka, Logger: env.Logger, Telemetry: env.Telemetry, DataDir: env.DataDir,
	})
	if err != nil {
		return service.Parts{}, err
	}
	return service.Parts{App: a, RegisterGRPC: a.RegisterGRPC}, nil
}

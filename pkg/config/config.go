// Package config fills a configuration struct from, in rising order: the defaults already in it, a
// strict YAML file (an unknown key is an error), the environment, and overrides from flags.
//
// Every leaf key of the struct has one variable: prefix `SILLAGE_`, dots as two underscores, upper case.
// `kafka.brokers` is SILLAGE_KAFKA__BROKERS. Lists are separated by commas. Secrets never stand in a
// configuration: see package secret.
package config

import (
	"errors"
	"fmt"
	"sort"
	"strings"

	"github.com/go-viper/mapstructure/v2"
	"github.com/knadh/koanf/parsers/yaml"
	"github.com/knadh/koanf/providers/confmap"
	"github.com/knadh/koanf/providers/file"
	"github.com/knadh/koanf/providers/structs"
	"github.com/knadh/koanf/v2"
)

// EnvPrefix begins the name of every variable.
const EnvPrefix = "SILLAGE_"

// Validator is a configuration that can say everything that is wrong with it.
type Validator interface {
	Validate() error
}

// Sources are where settings come from besides the defaults.
type Sources struct {
	// File is the path of a YAML file; empty: none.
	File string
	// Lookup reads the environment, as os.LookupEnv does.
	Lookup func(name string) (string, bool)
	// Overrides are set last, by key (`kafka.brokers`).
	Overrides map[string]any
}

// Load fills cfg, a pointer to a struct with `koanf` tags that holds its defaults, and validates it.
// Errors name the file, the variable or the key.
func Load(cfg Validator, from Sources) error {
	k := koanf.New(".")
	if err := k.Load(structs.Provider(cfg, "koanf"), nil); err != nil {
		return fmt.Errorf("reading the defaults: %w", err)
	}
	known := k.Keys()
	if err := loadFile(k, from.File); err != nil {
		return err
	}
	if err := loadEnv(k, known, from.Lookup); err != nil {
		return err
	}
	if err := k.Load(confmap.Provider(from.Overrides, "."), nil); err != nil {
		return fmt.Errorf("applying flags: %w", err)
	}
	if err := decode(k, cfg); err != nil {
		return fmt.Errorf("reading the configuration%s: %w", in(from.File), err)
	}
	if err := cfg.Validate(); err != nil {
		return fmt.Errorf("checking the configuration%s: %w", in(from.File), err)
	}
	return nil
}

// EnvName is the variable of a key.
func EnvName(key string) string {
	return EnvPrefix + strings.ToUpper(strings.ReplaceAll(key, ".", "__"))
}

// Keys lists every leaf key of a configuration with its present value, sorted.
func Keys(cfg any) ([]string, map[string]any, error) {
	k := koanf.New(".")
	if err := k.Load(structs.Provider(cfg, "koanf"), nil); err != nil {
		return nil, nil, fmt.Errorf("reading the configuration: %w", err)
	}
	keys := k.Keys()
	sort.Strings(keys)
	return keys, k.All(), nil
}

func loadFile(k *koanf.Koanf, path string) error {
	if path == "" {
		return nil
	}
	if err := k.Load(file.Provider(path), yaml.Parser()); err != nil {
		return fmt.Errorf("reading the configuration file %s: %w", path, err)
	}
	return nil
}

func loadEnv(k *koanf.Koanf, known []string, lookup func(string) (string, bool)) error {
	if lookup == nil {
		return nil
	}
	var errs []error
	for _, key := range known {
		value, ok := lookup(EnvName(key))
		if !ok {
			continue
		}
		if err := k.Set(key, value); err != nil {
			errs = append(errs, fmt.Errorf("reading the variable %s: %w", EnvName(key), err))
		}
	}
	return errors.Join(errs...)
}

func decode(k *koanf.Koanf, cfg any) error {
	return k.UnmarshalWithConf("", cfg, koanf.UnmarshalConf{DecoderConfig: &mapstructure.DecoderConfig{
		DecodeHook: mapstructure.ComposeDecodeHookFunc(
			mapstructure.StringToTimeDurationHookFunc(),
			mapstructure.StringToSliceHookFunc(","),
		),
		TagName:          "koanf",
		ErrorUnused:      true,
		WeaklyTypedInput: true,
		Result:           cfg,
	}})
}

func in(path string) string {
	if path == "" {
		return ""
	}
	return " in " + path
}

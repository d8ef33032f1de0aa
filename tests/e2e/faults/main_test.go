package faults

import (
	"os"
	"testing"

	"github.com/sillage-cdp/sillage/tests/e2e/faults/rig"
)

func TestMain(m *testing.M) { os.Exit(rig.Main(m)) }

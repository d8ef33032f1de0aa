// Package scenarios holds the end-to-end tests: whole stories of a running `sillage up`, each judged by
// an oracle of its own that shares no code with the product.
package scenarios

import (
	"os"
	"testing"

	"github.com/sillage-cdp/sillage/tests/e2e/stack"
)

func TestMain(m *testing.M) { os.Exit(stack.Main(m)) }

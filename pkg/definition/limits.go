package definition

// Caps of definitions. They bound the state and the work that one definition can cause in every service.
const (
	// MaxFileBytes is the largest YAML file.
	MaxFileBytes = 8 << 20
	// MaxDefinitionBytes is the largest definition, encoded: it must fit a record of the topic.
	MaxDefinitionBytes = 512 << 10
	// MaxNesting is the deepest nesting of conditions within each other.
	MaxNesting = 16
	// MaxConditions is how many conditions a segment may have in all.
	MaxConditions = 200
	// MaxCount is the highest count of events that a condition may ask for.
	MaxCount = 1000
	// MaxSteps is how many steps a journey may have.
	MaxSteps = 100
	// MaxArms is how many arms a split may have.
	MaxArms = 20
	// MaxExits is how many exit rules a journey may have.
	MaxExits = 20
	// MaxRules is how many rules a heat score may have.
	MaxRules = 100
	// MaxThresholds is how many thresholds or labels a score may have in each list.
	MaxThresholds = 20
	// MaxCaps is how many pressure caps a tenant may have.
	MaxCaps = 50
	// MaxNamespaces is how many identifier namespaces a tenant may have.
	MaxNamespaces = 32
	// MaxIdentifiersPerNamespace is how many values of a namespace one profile may have.
	MaxIdentifiersPerNamespace = 1000
	// MaxRefusedValues is how many identifier values a tenant may refuse.
	MaxRefusedValues = 1000
	// MaxWriteKeys is how many write keys a source may have.
	MaxWriteKeys = 20
	// MinWriteKeyLength and MaxWriteKeyLength bound a write key in characters.
	MinWriteKeyLength = 8
	MaxWriteKeyLength = 128
	// MaxAllowedOrigins is how many sites a source may name.
	MaxAllowedOrigins = 100
	// MaxTemplateBytes is the largest part of a template.
	MaxTemplateBytes = 256 << 10

	// MaxPlannedEvents is how many events a tracking plan may list.
	MaxPlannedEvents = 1000
	// MaxEventNames is how many distinct event names a source may be allowed.
	MaxEventNames = 100_000

	maxNameLength = 64
	maxTextLength = 2000
	maxEventName  = 200
	maxEventBytes = 1 << 20
	maxBatchBytes = 64 << 20
	maxWeight     = 1_000_000
	maxRate       = 100_000
	maxEventRate  = 10_000_000
	maxAttempts   = 50
)

package clickhouse

import (
	"encoding/xml"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
)

// serverSettings is the part of ClickHouse's server configuration that an engine inside another
// process needs to be told: to keep its caches and thread pools small, and to stay idle when idle
// (no system log tables, no periodic metrics).
type serverSettings struct {
	XMLName xml.Name `xml:"clickhouse"`

	UsersConfig string `xml:"users_config"`

	MaxServerMemoryUsage           int64   `xml:"max_server_memory_usage"`
	MaxServerMemoryUsageToRAMRatio float64 `xml:"max_server_memory_usage_to_ram_ratio"`
	MarkCacheSize                  int64   `xml:"mark_cache_size"`
	UncompressedCacheSize          int64   `xml:"uncompressed_cache_size"`
	IndexMarkCacheSize             int64   `xml:"index_mark_cache_size"`
	IndexUncompressedCacheSize     int64   `xml:"index_uncompressed_cache_size"`
	PrimaryIndexCacheSize          int64   `xml:"primary_index_cache_size"`
	QueryConditionCacheSize        int64   `xml:"query_condition_cache_size"`
	MMapCacheSize                  int64   `xml:"mmap_cache_size"`
	CompiledExpressionCacheSize    int64   `xml:"compiled_expression_cache_size"`

	BackgroundPoolSize             int `xml:"background_pool_size"`
	BackgroundMergesConcurrency    int `xml:"background_merges_mutations_concurrency_ratio"`
	BackgroundMovePoolSize         int `xml:"background_move_pool_size"`
	BackgroundFetchesPoolSize      int `xml:"background_fetches_pool_size"`
	BackgroundCommonPoolSize       int `xml:"background_common_pool_size"`
	BackgroundSchedulePoolSize     int `xml:"background_schedule_pool_size"`
	BackgroundMessageBrokerPool    int `xml:"background_message_broker_schedule_pool_size"`
	BackgroundDistributedPool      int `xml:"background_distributed_schedule_pool_size"`
	BackgroundBufferFlushPool      int `xml:"background_buffer_flush_schedule_pool_size"`
	MaxThreadPoolSize              int `xml:"max_thread_pool_size"`
	MaxThreadPoolFreeSize          int `xml:"max_thread_pool_free_size"`
	MaxIOThreadPoolSize            int `xml:"max_io_thread_pool_size"`
	MaxIOThreadPoolFreeSize        int `xml:"max_io_thread_pool_free_size"`
	TablesLoaderForegroundPoolSize int `xml:"tables_loader_foreground_pool_size"`
	TablesLoaderBackgroundPoolSize int `xml:"tables_loader_background_pool_size"`
}

func newServerSettings(cfg Config, usersConfig string) serverSettings {
	merges := max(2, cfg.MaxThreads/2)
	return serverSettings{
		UsersConfig:                    usersConfig,
		MaxServerMemoryUsage:           cfg.MaxMemory,
		MaxServerMemoryUsageToRAMRatio: 0.8,
		MarkCacheSize:                  cfg.MaxMemory / 32,
		UncompressedCacheSize:          0,
		IndexMarkCacheSize:             cfg.MaxMemory / 64,
		IndexUncompressedCacheSize:     0,
		PrimaryIndexCacheSize:          cfg.MaxMemory / 64,
		QueryConditionCacheSize:        16 << 20,
		MMapCacheSize:                  1000,
		CompiledExpressionCacheSize:    16 << 20,
		BackgroundPoolSize:             merges,
		BackgroundMergesConcurrency:    2,
		BackgroundMovePoolSize:         1,
		BackgroundFetchesPoolSize:      1,
		BackgroundCommonPoolSize:       2,
		BackgroundSchedulePoolSize:     4,
		BackgroundMessageBrokerPool:    1,
		BackgroundDistributedPool:      1,
		BackgroundBufferFlushPool:      1,
		MaxThreadPoolSize:              1000,
		MaxThreadPoolFreeSize:          16,
		MaxIOThreadPoolSize:            16,
		MaxIOThreadPoolFreeSize:        0,
		TablesLoaderForegroundPoolSize: 2,
		TablesLoaderBackgroundPoolSize: 2,
	}
}

// usersFile gives the one user of the engine its rights. Without the right to SOURCES a statement
// reaches nothing outside the engine's own tables.
const usersFile = `<clickhouse>
    <profiles><default/></profiles>
    <quotas><default/></quotas>
    <users>
        <default>
            <password/>
            <networks><ip>::/0</ip></networks>
            <profile>default</profile>
            <quota>default</quota>
            <grants><query>GRANT %s ON *.*</query></grants>
        </default>
    </users>
</clickhouse>
`

// The rights leave out SYSTEM SHUTDOWN and SYSTEM KILL, which would end the whole process, and the
// rights on users and roles, which the library keeps no store for.
const ownTables = "SHOW, SELECT, INSERT, ALTER, CREATE, DROP, UNDROP TABLE, TRUNCATE, OPTIMIZE, KILL QUERY, dictGet, INTROSPECTION," +
	" SYSTEM MERGES, SYSTEM TTL MERGES, SYSTEM MOVES, SYSTEM VIEWS, SYSTEM RELOAD, SYSTEM DROP CACHE, SYSTEM FLUSH"

// writeEngineConfig writes the engine's configuration into the data directory and returns the
// arguments with which every connection is opened.
func writeEngineConfig(cfg Config) ([]string, error) {
	dir := filepath.Join(cfg.DataDir, "config")
	if err := os.MkdirAll(dir, 0o750); err != nil {
		return nil, fmt.Errorf("making the engine's configuration folder: %w", err)
	}
	users, server := filepath.Join(dir, "users.xml"), filepath.Join(dir, "config.xml")
	rights := ownTables
	if cfg.ExternalSources {
		rights += ", SOURCES, TABLE ENGINE, BACKUP"
	}
	content, err := xml.MarshalIndent(newServerSettings(cfg, users), "", "    ")
	if err != nil {
		return nil, fmt.Errorf("encoding the engine's configuration: %w", err)
	}
	for path, text := range map[string][]byte{server: content, users: fmt.Appendf(nil, usersFile, rights)} {
		if err := os.WriteFile(path, text, 0o600); err != nil {
			return nil, fmt.Errorf("writing the engine's configuration: %w", err)
		}
	}
	return []string{"--path=" + filepath.Join(cfg.DataDir, "data"), "--config-file=" + server}, nil
}

// baselineSettings are the settings of every statement that does not say otherwise. They make the
// embedded engine behave as a server does.
func baselineSettings(cfg Config) map[string]string {
	return map[string]string{
		"max_threads":                   strconv.Itoa(cfg.MaxThreads),
		"max_insert_threads":            "1",
		"implicit_select":               "0",
		"allow_introspection_functions": "0",
		"async_insert":                  "0",
		"log_queries":                   "0",
	}
}

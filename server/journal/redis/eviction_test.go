package redis

import (
	"bytes"
	"log/slog"
	"strings"
	"testing"

	"github.com/sluice-sse/sluice/internal/testbed"
)

// TestWarnsOfEviction has stores that drop what is kept when they are full, that refuse
// then, that are never full, and that do not say: only of the first a process warns.
func TestWarnsOfEviction(t *testing.T) {
	for _, tt := range []struct {
		name  string
		store []string
		warns bool
	}{
		{"drops", []string{"--maxmemory", "100mb", "--maxmemory-policy", "volatile-lru"}, true},
		{"refuses", []string{"--maxmemory", "100mb", "--maxmemory-policy", "noeviction"}, false},
		{"never full", []string{"--maxmemory", "0", "--maxmemory-policy", "allkeys-lru"}, false},
		{"does not say", []string{"--maxmemory", "100mb", "--maxmemory-policy", "volatile-lru", "--rename-command", "CONFIG", ""}, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var log bytes.Buffer
			j := open(t, testbed.StartRedis(t, tt.store...), Config{Log: slog.New(slog.NewTextHandler(&log, nil))})
			j.Close()
			if warns := strings.Contains(log.String(), "noeviction"); warns != tt.warns || !tt.warns && log.Len() > 0 {
				t.Errorf("it logs %q", log.String())
			}
		})
	}
}

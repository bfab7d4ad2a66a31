package memory_test

import (
	"cmp"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sluice-sse/sluice/server/journal"
	"github.com/sluice-sse/sluice/server/journal/journaltest"
	"github.com/sluice-sse/sluice/server/journal/memory"
)

// TestSuite runs with the defaults, and with as little memory as the suite can do with,
// as the fake has it that other packages use.
func TestSuite(t *testing.T) {
	for _, tt := range []struct {
		name  string
		least journaltest.Limits
	}{
		{"default", journaltest.Limits{}},
		{"small", journaltest.Limits{Bytes: 2 << 20, MaxCompletion: 300 << 10}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			journaltest.Run(t, journaltest.Subject{
				Open: func(t testing.TB, limits journaltest.Limits) journal.Journal {
					m := memory.New(memory.Config{
						Retention:     limits.Retention,
						Bytes:         cmp.Or(limits.Bytes, tt.least.Bytes),
						MaxCompletion: cmp.Or(limits.MaxCompletion, tt.least.MaxCompletion),
					})
					t.Cleanup(m.Close)
					return m
				},
				InTime: synctest.Test,
				Minute: time.Minute,
			})
		})
	}
}

package redis

import (
	"fmt"
	"testing"
	"time"

	"github.com/sluice-sse/sluice/internal/testbed"
	"github.com/sluice-sse/sluice/server/journal"
	"github.com/sluice-sse/sluice/server/journal/journaltest"
	"github.com/sluice-sse/sluice/server/journal/memory"
)

// open returns a journal on the store, as another process would have it. It is closed with
// the test.
func open(t testing.TB, s *testbed.Redis, config Config) *Journal {
	t.Helper()
	config.URL = s.URL
	j, err := New(config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(j.Close)
	return j
}

// TestSuite has one process own and read.
func TestSuite(t *testing.T) {
	t.Run("store", func(t *testing.T) { t.Parallel(); suite(t, testbed.StartRedis(t)) })
	t.Run("cluster", func(t *testing.T) { t.Parallel(); suite(t, startCluster(t)) })
}

func suite(t *testing.T, s *testbed.Redis) {
	n := 0
	journaltest.Run(t, journaltest.Subject{
		Open: func(t testing.TB, limits journaltest.Limits) journal.Journal {
			n++
			return open(t, s, Config{
				Prefix:    fmt.Sprint("t", n),
				Retention: limits.Retention,
				Memory:    memory.Config{Bytes: limits.Bytes, MaxCompletion: limits.MaxCompletion},
			})
		},
		InTime:     func(t *testing.T, test func(t *testing.T)) { test(t) },
		Minute:     time.Second,
		KeepsEnded: true,
	})
}

package redis

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sluice-sse/sluice/internal/testbed"
	"github.com/sluice-sse/sluice/server/journal"
)

// TestStoreDropsAtRandom has a store that is full drop what it likes while completions run:
// a reader may be told that it cannot read on, but none takes a part for the whole, nor is
// one whose owner lives ended for it.
func TestStoreDropsAtRandom(t *testing.T) {
	for _, policy := range []string{"allkeys-random", "volatile-lru"} {
		t.Run(policy, func(t *testing.T) {
			t.Parallel()
			s := testbed.StartRedis(t, "--maxmemory-policy", policy)
			a, b := open(t, s, Config{}), open(t, s, Config{})
			run(t, a, "CONFIG", "SET", "maxmemory", "2mb")
			var whole, refused atomic.Int32
			var all sync.WaitGroup
			for worker := range 10 {
				all.Go(func() {
					for i := range 5 {
						id := fmt.Sprintf("c%d.%d", worker, i)
						w, _ := create(t, a, id)
						var readers sync.WaitGroup
						for range 2 {
							readers.Go(func() {
								switch e, err := follow(soon(t), b, id, 0); {
								case err == nil && e.Kind == journal.Finished && e.Sequence == 301:
									whole.Add(1)
								case err == nil:
									t.Errorf("%s ends with %d, %d %q", id, e.Sequence, e.Kind, e.Data)
								case errors.Is(err, journal.ErrExpired), errors.Is(err, journal.ErrNotFound), isStoreError(err):
									refused.Add(1)
								default:
									t.Errorf("%s: %v", id, err)
								}
							})
						}
						for sequence := int32(1); sequence <= 300; sequence += 20 {
							add(t, w, sequence, sequence+19)
							time.Sleep(time.Millisecond)
						}
						end(t, w, 301)
						readers.Wait()
					}
				})
			}
			all.Wait()
			info, _ := a.client.Do(t.Context(), a.client.B().Info().Section("stats").Build()).ToString()
			t.Logf("%d read the whole, %d are refused; %.40s", whole.Load(), refused.Load(), info[max(0, strings.Index(info, "evicted_keys")):])
		})
	}
}

package redis

import (
	"os"
	"testing"
	"time"

	"github.com/sluice-sse/sluice/internal/testbed"
)

// TestStoreIsBusy has a store that answers, and can do nothing: somebody's script does not
// end, or it cannot save and takes no more.
func TestStoreIsBusy(t *testing.T) {
	t.Parallel()
	dir := t.TempDir() + "/gone"
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	s := testbed.StartRedis(t, "--busy-reply-threshold", "50", "--dir", dir)
	node, other := connect(t, s), connect(t, s)
	do := func(args ...string) error {
		return node.Do(t.Context(), node.B().Arbitrary(args...).Build()).Error()
	}
	for name, steps := range map[string][2]func(){
		"BUSY": {
			func() {
				ended := make(chan struct{})
				go func() { defer close(ended); _ = do("EVAL", "while true do end", "0") }()
				t.Cleanup(func() { <-ended })
				eventually(t, "it is not busy", func() bool {
					err := other.Do(t.Context(), other.B().Exists().Key("x").Build()).Error()
					return err != nil
				})
			},
			func() {
				if err := other.Do(t.Context(), other.B().ScriptKill().Build()).Error(); err != nil {
					t.Error(err)
				}
			},
		},
		"MISCONF": {
			func() {
				if err := os.RemoveAll(dir); err != nil {
					t.Error(err)
				}
				_ = do("CONFIG", "SET", "save", "3600 1")
				_ = do("BGSAVE")
				eventually(t, "it saves", func() bool { return do("SET", "x", "y") != nil })
			},
			func() {
				if err := do("CONFIG", "SET", "stop-writes-on-bgsave-error", "no"); err != nil {
					t.Error(err)
				}
			},
		},
	} {
		t.Run(name, func(t *testing.T) {
			a := open(t, s, Config{Patience: 300 * time.Millisecond, Lease: 2 * time.Second, Prefix: name})
			w, _ := create(t, a, "c")
			add(t, w, 1, 1)
			steps[0]()
			add(t, w, 2, 2)
			if a.Available() && !w.(*writer).behind {
				t.Error("the store has taken it")
			}
			add(t, w, 3, 3)
			steps[1]()
			end(t, w, 4)
			b := open(t, s, Config{Prefix: name})
			eventually(t, "the store does not get it", func() bool {
				info, err := b.Get(t.Context(), "c")
				return err == nil && info.Ended && info.Last == 4
			})
		})
	}
}

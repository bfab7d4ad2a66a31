//go:build !race

package bench

import (
	"fmt"
	"testing"

	"github.com/sluice-sse/sluice/internal/testbed"
)

// maxIdleStack is how many KiB of stacks a stream may have that waits, in one process. (The
// frames of what looks for races are larger.)
const maxIdleStack = 13

// TestIdleMemory checks what streams have of stacks that wait for their next token, which is
// a third of their memory.
//
// In one process a stream has a goroutine with 8 KiB, and one of 2 or 4 that notices when
// the client leaves. What is called once, at the beginning, may make the first stack grow
// to 16 KiB; the collector halves it again if less than a quarter is in use, which is 3.2
// KiB beside what the runtime reserves. So what a stream that waits has called is to have
// small frames, and few. To see them, build with -gcflags=-S, or ask go tool objdump what
// is subtracted from SP where a function begins.
func TestIdleMemory(t *testing.T) {
	testbed.NeedProc(t)
	b := newBench(t)
	for name, most := range map[string]float64{"sluice-one": maxIdleStack, "sluice-guarded": maxIdleStack, "sluice-two": 2 * (maxIdleStack + 1)} {
		c := contenderOf(name)
		running := b.start(c)
		s := scenario{name: "Idle", load: load{Streams: 300}, pace: testbed.Pace{Tokens: 1, Gated: true}}
		m, err := b.prepare(s, c, running)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		before := m.stacks()
		m.begin()
		m.await("open")
		m.tell("collect")
		kib := float64(m.stacks()-before) / 1024 / float64(m.load.Streams)
		m.source.Tell("release")
		m.await("full")
		m.source.Tell("release")
		if _, err := m.end(); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		stopAll(running)
		fmt.Printf("%s: an idle stream has %.1f KiB of stacks\n", name, kib)
		if kib > most {
			t.Errorf("%s: an idle stream has %.1f KiB of stacks, want %.1f at most", name, kib, most)
		}
	}
}

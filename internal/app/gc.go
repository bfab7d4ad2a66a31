package app

import (
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"sync"
)

// pacer sets how much garbage the heap may have: as much as is alive in it, the journal
// aside.
//
// By default (GOGC=100) the heap grows to twice what is alive in it before the next
// collection, and a full journal is most of that: with --journal-memory=128MiB the
// program took 294 MiB. But what the journal holds lives for minutes, and has no
// pointers, so that it makes a collection no dearer. With a pacer, the program takes
// 192 MiB. After each collection it sets GOGC so that the heap grows by what is alive and
// not the journal's (go.dev/doc/gc-guide, "GOGC").
type pacer struct {
	journal func() int64 // how many bytes it holds

	mu      sync.Mutex // guards all below
	percent int
	stopped bool
}

// minGrowth is what the heap may always grow by between two collections.
const minGrowth = 32 << 20

// startPacer returns a pacer that works until it is stopped.
func startPacer(journal func() int64) *pacer {
	p := &pacer{journal: journal, percent: 100}
	p.watch()
	return p
}

// watch adjusts the collector after its next run, and after each that follows. It is
// told of them by what each finds unused.
func (p *pacer) watch() {
	unused := &struct{ p *pacer }{p}
	runtime.SetFinalizer(unused, func(*struct{ p *pacer }) {
		if p.adjust() {
			p.watch()
		}
	})
}

// adjust reports whether it is to go on.
func (p *pacer) adjust() bool {
	alive := []metrics.Sample{{Name: "/gc/heap/live:bytes"}}
	metrics.Read(alive)
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.stopped {
		p.set(percentFor(int64(alive[0].Value.Uint64()), p.journal()))
	}
	return !p.stopped
}

// percentFor returns how much the heap may grow by, of what is alive in it.
func percentFor(alive, journal int64) int {
	growth := max(alive-journal, minGrowth)
	return int(max(1, min(100, 100*growth/max(alive, 1))))
}

func (p *pacer) set(percent int) {
	if p.percent != percent { // it stops the world
		p.percent = percent
		debug.SetGCPercent(percent)
	}
}

// stop leaves the collector as it was.
func (p *pacer) stop() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.stopped = true
	p.set(100)
}

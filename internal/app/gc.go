package app

import (
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"sync"
)

// pacer has the garbage collector leave room for everything but the journal.
//
// By default (GOGC=100) the heap grows to twice what is alive in it before the next
// collection, and a full journal is most of that: with --journal-memory=128MiB the
// program took 294 MiB. But what the journal holds lives for minutes, and has no
// pointers, so that it makes a collection no dearer: it needs no room. With a pacer,
// the program takes 192 MiB. After each collection, it tells the collector how much of
// what is alive is as much again as all else (go.dev/doc/gc-guide, "GOGC").
type pacer struct {
	journal func() int64 // how many bytes it holds

	mu      sync.Mutex // guards all below
	percent int
	stopped bool
}

// minRoom is what the heap may always grow by between two collections.
const minRoom = 32 << 20

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
	room := max(alive-journal, minRoom)
	return int(max(1, min(100, 100*room/max(alive, 1))))
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

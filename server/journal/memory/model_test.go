package memory

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sluice-sse/sluice/server/journal"
)

// audit checks that what a journal counts is what it holds, and within bounds.
func audit(t testing.TB, m *Journal) {
	t.Helper()
	m.mu.Lock()
	defer m.mu.Unlock()
	var total, shares int64
	for id, l := range m.logs {
		want := int64(0)
		for _, p := range l.full {
			want += int64(cap(p.data))
		}
		if own := l.ended && l.page.first == l.last; !own { // the end's own page has its room in logCost
			want += int64(cap(l.page.data))
		}
		if !l.closed {
			want += int64(l.account.granted) // it has its room, and not yet the page
		}
		if l.bytes != want {
			t.Fatalf("completion %s counts %d bytes and has %d", id, l.bytes, want)
		}
		if l.bytes > m.config.MaxCompletion {
			t.Fatalf("completion %s has %d bytes of %d", id, l.bytes, m.config.MaxCompletion)
		}
		if !l.closed {
			shares += m.budget.share(l, l.bytes)
		}
		total += want + l.names()
		if l.gone {
			total += goneCost
		} else {
			total += logCost
		}
	}
	if m.budget.shares != shares {
		t.Fatalf("the shares are %d bytes, and %d are counted", shares, m.budget.shares)
	}
	if m.bytes != total {
		t.Fatalf("the journal counts %d bytes and has %d", m.bytes, total)
	}
	if m.bytes > m.config.Bytes {
		t.Fatalf("the journal has %d bytes of %d", m.bytes, m.config.Bytes)
	}
}

// model is a Memory said plainly: it keeps everything, and only learns from the
// Memory which completions made room for others. Its Memory must be in a bubble.
type model struct {
	t       *testing.T
	memory  *Journal
	known   []*modelRun // in the order of their creation
	ended   []*modelRun // in the order of their end
	gone    []*modelRun // in the order in which their entries went
	keys    map[claim]*modelRun
	created int
	refused int
	evicted int
}

type modelRun struct {
	journal.Completion
	writer  journal.Writer
	entries []journal.Entry
	closed  bool // nobody writes it any more
	ended   bool
	state   error // what Get says
	until   time.Time
	freed   int64 // what the last step gave, or the next gives
	reader  journal.Reader
	seen    int32
}

var modelSizes = []int{0, 1, 14, 15, 16, 31, 32, 100, 500, firstPage - 2, 2000, 4096, fullPage - 3, 20_000}

// play runs a script of three bytes an operation.
func play(t *testing.T, config Config, script []byte) *model {
	t.Helper()
	d := &model{t: t, memory: New(config), keys: map[claim]*modelRun{}}
	defer d.memory.Close()
	for ; len(script) >= 3; script = script[3:] {
		d.step(script[0], int(script[1]), int(script[2]))
		d.compare()
	}
	for _, r := range d.known {
		if !r.closed {
			d.append(r, journal.Failed, 10)
			d.compare()
		}
	}
	d.sleep(2 * d.memory.config.Retention)
	d.compare()
	if m := d.memory; m.Len() != 0 || m.Bytes() != 0 || len(m.keys) != 0 || len(d.known) != 0 {
		t.Fatalf("at the end: %d known, %d bytes, %d keys; the model has %d", m.Len(), m.Bytes(), len(m.keys), len(d.known))
	}
	return d
}

func (d *model) step(op byte, a, b int) {
	op %= 16
	switch {
	case op == 0 || len(d.known) == 0:
		d.create(a, b)
		return
	case op == 1:
		d.sleep(time.Duration(a*b) * d.memory.config.Retention / (1 << 16))
		return
	}
	r := d.known[a%len(d.known)]
	switch {
	case op < 5:
		d.read(r, int32(b%(len(r.entries)+3)))
	case op < 7:
		d.follow(r, b)
	case op < 8 && !r.closed && b%5 == 0:
		r.writer.Close()
		d.close(r)
	case op < 8 && !r.closed:
		d.append(r, journal.Kind(1+b%2), b)
	case !r.closed:
		d.append(r, journal.Event, modelSizes[b%len(modelSizes)])
	case !r.ended && b%2 == 0:
		d.endLost(r, b)
	default:
		if _, err := appendOne(d.t.Context(), r.writer, journal.Entry{Sequence: int32(len(r.entries) + 1)}); err != journal.ErrFenced {
			d.t.Fatalf("Append after the end: %v", err)
		}
	}
}

func (d *model) create(a, b int) {
	d.created++
	c := journal.Completion{ID: fmt.Sprint(d.created), Principal: string(rune('p' + a%2))}
	if b%4 > 0 {
		c.Key = fmt.Sprint(b % 16)
	}
	holder := d.keys[claim{c.Principal, c.Key}]
	fits := d.fits(nil, (&log{Completion: c}).names())
	w, got, err := d.memory.Create(d.t.Context(), c, nobody{})
	switch {
	case c.Key != "" && holder != nil:
		if w != nil || got != holder.Completion || err != nil {
			d.t.Fatalf("Create = %v, %+v, %v; want the holder %+v", w, got, err, holder.Completion)
		}
		return
	case fits != (err == nil):
		d.t.Fatalf("Create: %v, with room: %v", err, fits)
	case err == nil:
		if w == nil || got != c {
			d.t.Fatalf("Create = %v, %+v; want %+v", w, got, c)
		}
		r := &modelRun{Completion: c, writer: w}
		d.known = append(d.known, r)
		if c.Key != "" {
			d.keys[claim{c.Principal, c.Key}] = r
		}
	}
	d.madeRoom(err)
}

func (d *model) append(r *modelRun, k journal.Kind, size int) {
	e := journal.Entry{Sequence: int32(len(r.entries) + 1), Kind: k, Data: make([]byte, size)}
	for i := range e.Data {
		e.Data[i] = byte(i * int(e.Sequence))
	}
	size, least := r.writer.(*log).newPage(e)
	fits := k != journal.Event || size == 0 || d.fits(r, int64(size)) || d.fits(r, int64(least))
	data, err := appendOne(d.t.Context(), r.writer, e)
	if fits && errors.Is(err, journal.ErrFull) || !fits && err == nil {
		d.t.Fatalf("Append: %v, with room: %v", err, fits)
	}
	if err == nil && !bytes.Equal(data, e.Data) {
		d.t.Fatalf("appended %q, and it is %q", e.Data, data)
	}
	if err == nil {
		r.entries = append(r.entries, e)
	}
	if k == journal.Event {
		d.madeRoom(err)
		return
	}
	if err != nil {
		d.t.Fatalf("the end is refused: %v", err)
	}
	r.ended = true
	d.close(r)
}

// close notes that nobody writes a completion any more.
func (d *model) close(r *modelRun) {
	r.closed, r.until = true, time.Now().Add(d.memory.config.Retention)
	r.freed = r.writer.(*log).bytes + logCost - goneCost
	d.ended = append(d.ended, r)
}

// endLost ends one whose owner is lost.
func (d *model) endLost(r *modelRun, size int) {
	e := journal.Entry{Sequence: int32(len(r.entries) + 1), Kind: journal.Failed, Data: make([]byte, size)}
	if err := d.memory.EndLost(d.t.Context(), r.ID, e.Data); err != r.state {
		d.t.Fatalf("EndLost(%s): %v; want %v", r.ID, err, r.state)
	}
	if r.state == nil {
		r.entries, r.ended = append(r.entries, e), true
	}
}

// fits says whether there is room for a new completion, with names of n bytes, or, of
// those that run, for one to grow by n bytes: room's rules, counted anew.
func (d *model) fits(grows *modelRun, n int64) bool {
	room := &d.memory.budget
	sum, aside := int64(0), room.guaranteed
	first := true
	for _, r := range d.known {
		if r.closed {
			continue
		}
		l := r.writer.(*log)
		pages := l.bytes
		if r == grows {
			pages += n
		}
		pages = max(pages, room.reservation)
		sum += logCost + l.names() + pages
		if first {
			first, aside = false, max(0, room.guaranteed-pages)
		}
	}
	if grows != nil {
		return sum+aside <= room.size
	}
	if first {
		aside = max(0, room.guaranteed-room.reservation)
	}
	return sum+logCost+n+room.reservation+aside <= room.size*15/16
}

func TestMemoryIsLikeItsModel(t *testing.T) {
	configs := []Config{
		{Bytes: 64 << 10, MaxCompletion: 40 << 10},
		{Bytes: 16 << 10, MaxCompletion: 16 << 10},
		{Bytes: 1 << 20},
	}
	for i, config := range configs {
		config.Retention = time.Minute
		for seed := range uint64(4) {
			t.Run(fmt.Sprint(i, "/", seed), func(t *testing.T) {
				random := rand.New(rand.NewPCG(uint64(i), seed))
				script := make([]byte, 3*2000)
				for j := range script {
					script[j] = byte(random.Uint32())
				}
				synctest.Test(t, func(t *testing.T) {
					d := play(t, config, script)
					t.Logf("%d created, %d evicted, %d refused", d.created, d.evicted, d.refused)
					if d.evicted == 0 && i < 2 {
						t.Error("nothing was ever evicted: the test tests little")
					}
				})
			})
		}
	}
}

func FuzzMemory(f *testing.F) {
	f.Add([]byte("\x00\x00\x00\x08\x00\x02\x07\x00\x00\x02\x00\x00\x01\xff\xff"))
	f.Add([]byte("\x00\x00\x01\x0f\x00\x0c\x00\x00\x02\x0f\x01\x0c\x07\x00\x01\x00\x00\x03\x0f\x02\x0d\x05\x00\x00\x0f\x02\x0d\x05\x00\x10"))
	f.Fuzz(func(t *testing.T, script []byte) {
		script = script[:min(len(script), 3*500)]
		synctest.Test(t, func(t *testing.T) {
			play(t, Config{Retention: time.Minute, Bytes: 32 << 10, MaxCompletion: 24 << 10}, script)
		})
	})
}

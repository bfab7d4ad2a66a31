package journal

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"testing"
	"testing/synctest"
	"time"
)

// audit checks that what a journal counts is what it holds, and within bounds.
func audit(t testing.TB, m *Memory) {
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
		if !l.ended {
			want += int64(l.place.granted) // it has its room, and not yet the page
		}
		if l.bytes != want {
			t.Fatalf("completion %s counts %d bytes and has %d", id, l.bytes, want)
		}
		if l.bytes > m.config.MaxCompletion {
			t.Fatalf("completion %s has %d bytes of %d", id, l.bytes, m.config.MaxCompletion)
		}
		if !l.ended {
			shares += m.room.share(l, l.bytes)
		}
		total += want + l.names()
		if l.gone {
			total += goneCost
		} else {
			total += logCost
		}
	}
	if m.room.shares != shares {
		t.Fatalf("the shares are %d bytes, and %d are counted", shares, m.room.shares)
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
	memory  *Memory
	known   []*modelRun // in the order of their creation
	ended   []*modelRun // in the order of their end
	gone    []*modelRun // in the order in which their entries went
	keys    map[claim]*modelRun
	created int
	refused int
	evicted int
}

type modelRun struct {
	Completion
	writer  Writer
	entries []Entry
	ended   bool
	state   error // what Get says
	until   time.Time
	freed   int64 // what the last step gave, or the next gives
	reader  Reader
	seen    int32
}

var modelSizes = []int{0, 1, 14, 15, 16, 31, 32, 100, 500, firstPage - 2, 2000, 4096, fullPage - 3, 20_000}

// play runs a script of three bytes an operation.
func play(t *testing.T, config MemoryConfig, script []byte) *model {
	t.Helper()
	d := &model{t: t, memory: NewMemory(config), keys: map[claim]*modelRun{}}
	defer d.memory.Close()
	for ; len(script) >= 3; script = script[3:] {
		d.step(script[0], int(script[1]), int(script[2]))
		d.compare()
	}
	for _, r := range d.known {
		if !r.ended {
			d.append(r, Failed, 10)
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
	case op < 8 && !r.ended:
		d.append(r, Kind(1+b%2), b)
	case !r.ended:
		d.append(r, Event, modelSizes[b%len(modelSizes)])
	default:
		if _, err := r.writer.Append(d.t.Context(), Entry{Sequence: int32(len(r.entries) + 1)}); err != ErrFenced {
			d.t.Fatalf("Append after the end: %v", err)
		}
	}
}

func (d *model) create(a, b int) {
	d.created++
	c := Completion{ID: fmt.Sprint(d.created), Principal: string(rune('p' + a%2))}
	if b%4 > 0 {
		c.Key = fmt.Sprint(b % 16)
	}
	holder := d.keys[claim{c.Principal, c.Key}]
	fits := d.fits(nil, (&log{Completion: c}).names())
	w, got, err := d.memory.Create(d.t.Context(), c)
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

func (d *model) append(r *modelRun, k Kind, size int) {
	e := Entry{int32(len(r.entries) + 1), k, make([]byte, size)}
	for i := range e.Data {
		e.Data[i] = byte(i * int(e.Sequence))
	}
	size, least := r.writer.(*log).grow(e)
	fits := k != Event || size == 0 || d.fits(r, int64(size)) || d.fits(r, int64(least))
	data, err := r.writer.Append(d.t.Context(), e)
	if fits && errors.Is(err, ErrFull) || !fits && err == nil {
		d.t.Fatalf("Append: %v, with room: %v", err, fits)
	}
	if err == nil && !bytes.Equal(data, e.Data) {
		d.t.Fatalf("appended %q, and it is %q", e.Data, data)
	}
	if err == nil {
		r.entries = append(r.entries, e)
	}
	if k == Event {
		d.madeRoom(err)
		return
	}
	if err != nil {
		d.t.Fatalf("the end is refused: %v", err)
	}
	l := r.writer.(*log)
	r.ended, r.until = true, time.Now().Add(d.memory.config.Retention)
	r.freed = l.bytes + logCost - goneCost
	d.ended = append(d.ended, r)
}

// fits says whether there is room for a new completion, with names of n bytes, or, of
// those that run, for one to grow by n bytes: room's rules, counted anew.
func (d *model) fits(grows *modelRun, n int64) bool {
	room := &d.memory.room
	sum, aside := int64(0), room.guaranteed
	first := true
	for _, r := range d.known {
		if r.ended {
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

// madeRoom follows the evictions of an operation that needed room and may have
// failed: the first ones first, tombstones last, and not one more than needed.
func (d *model) madeRoom(err error) {
	m, freed := d.memory, int64(0)
	for len(d.ended) > 0 && d.get(d.ended[0]) != nil {
		freed = d.ended[0].freed
		d.expire(time.Now())
		d.evicted++
	}
	for len(d.gone) > 0 && d.get(d.gone[0]) == ErrNotFound {
		if len(d.ended) > 0 {
			d.t.Fatalf("%s is forgotten while %s still has entries", d.gone[0].ID, d.ended[0].ID)
		}
		freed = d.gone[0].freed
		d.forget()
	}
	switch {
	case err == nil:
		if freed > 0 && m.Bytes()+freed <= m.config.Bytes {
			d.t.Fatalf("%d bytes of %d, but what gave %d had to go", m.Bytes(), m.config.Bytes, freed)
		}
	case errors.Is(err, ErrFull):
		d.refused++
	case errors.Is(err, ErrTooLarge):
		d.refused++
	default:
		d.t.Fatal(err)
	}
}

// expire lets the entries of the one that ended first go.
func (d *model) expire(at time.Time) {
	r := d.ended[0]
	r.state, r.until = ErrExpired, at.Add(d.memory.config.Retention)
	r.freed = goneCost + r.writer.(*log).names()
	d.ended, d.gone = d.ended[1:], append(d.gone, r)
}

func (d *model) forget() {
	r := d.gone[0]
	r.state = ErrNotFound
	d.gone = d.gone[1:]
	delete(d.keys, claim{r.Principal, r.Key})
	for i, k := range d.known {
		if k == r {
			d.known = append(d.known[:i:i], d.known[i+1:]...)
		}
	}
	if err := d.get(r); err != ErrNotFound {
		d.t.Fatalf("Get(%s): %v; want it forgotten", r.ID, err)
	}
}

// sleep lets time pass, and with it what was due at each moment.
func (d *model) sleep(t time.Duration) {
	time.Sleep(t)
	synctest.Wait()
	now := time.Now()
	for len(d.ended) > 0 && !d.ended[0].until.After(now) {
		d.expire(d.ended[0].until)
	}
	for len(d.gone) > 0 && !d.gone[0].until.After(now) {
		d.forget()
	}
}

// read reads from a cursor what is there.
func (d *model) read(r *modelRun, after int32) {
	reader, err := d.memory.Read(d.t.Context(), r.ID, after)
	want := r.state
	if want == nil && int(after) > len(r.entries) {
		want = ErrAhead
	}
	if err != want {
		d.t.Fatalf("Read(%s, %d): %v; want %v", r.ID, after, err, want)
	}
	if err == nil {
		d.drain(reader, r, after)
		reader.Close()
	}
}

// follow reads on with a reader that stays, or opens one.
func (d *model) follow(r *modelRun, b int) {
	if r.reader == nil {
		if r.state != nil {
			return
		}
		r.seen = int32(b % (len(r.entries) + 1))
		r.reader, _ = d.memory.Read(d.t.Context(), r.ID, r.seen)
		return
	}
	r.seen = d.drain(r.reader, r, r.seen)
	if b%16 == 0 {
		r.reader.Close()
		r.reader = nil
	}
}

func (d *model) drain(reader Reader, r *modelRun, seen int32) int32 {
	d.t.Helper()
	got, err := have(reader)
	want, end := r.entries[seen:], error(nil)
	switch {
	case r.ended && (r.state == nil || len(want) == 0):
		end = io.EOF
	case r.state != nil:
		want, end = nil, ErrExpired
	}
	same(d.t, got, want)
	if err != end || d.t.Failed() {
		d.t.Fatalf("%s after %d: %v; want %v", r.ID, seen, err, end)
	}
	return seen + int32(len(got))
}

func (d *model) get(r *modelRun) error {
	info, err := d.memory.Get(d.t.Context(), r.ID)
	if err != ErrNotFound && (info.Completion != r.Completion || int(info.Last) != len(r.entries) || info.Ended != r.ended) {
		d.t.Fatalf("Get = %+v; want %+v, %d entries, ended: %v", info, r.Completion, len(r.entries), r.ended)
	}
	return err
}

// compare checks that Memory and model agree.
func (d *model) compare() {
	d.t.Helper()
	for _, r := range d.known {
		if err := d.get(r); err != r.state {
			d.t.Fatalf("Get(%s): %v; want %v", r.ID, err, r.state)
		}
	}
	if d.memory.Len() != len(d.known) || len(d.memory.keys) != len(d.keys) {
		d.t.Fatalf("%d known and %d keys; want %d and %d", d.memory.Len(), len(d.memory.keys), len(d.known), len(d.keys))
	}
	audit(d.t, d.memory)
}

func TestMemoryIsLikeItsModel(t *testing.T) {
	configs := []MemoryConfig{
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
			play(t, MemoryConfig{Retention: time.Minute, Bytes: 32 << 10, MaxCompletion: 24 << 10}, script)
		})
	})
}

package bench

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/sluice-sse/sluice/internal/testbed"
)

// The client opens streams and reads them to their end, each on a connection and
// a goroutine of its own. It is made to be cheap, for it shares the processors
// with those whom it measures: it decodes the transfer coding, since that may
// part a token in two, and looks for nothing but tokens.

// load is what the client is told to do.
type load struct {
	Address string
	Request string        // of each stream, as it goes over the connection
	Readers bool          // the streams but the first are readers of the first one's completion
	Streams int           // how many to open
	AtOnce  int           // how many may be open at the same time; 0: all
	Every   time.Duration // the pause before each next stream is opened
	Tokens  int           // how many each is to bring
}

// loadLimit bounds how long a load may take.
const loadLimit = 45 * time.Second

// report is what the client found.
type report struct {
	Tokens                                int // that came
	Lost, Repeated, Reordered, Cut, Other int // what must be none; Cut and Other count streams
	Example                               string

	// From a token's sending to its receipt, without the first of each stream.
	P50, P99 time.Duration
	// From before the connection is opened to the first token, the median.
	First time.Duration
}

// whole says what is wrong with what came, if anything.
func (r report) whole() error {
	if r.Lost+r.Repeated+r.Reordered+r.Cut+r.Other == 0 {
		return nil
	}
	return fmt.Errorf("%d tokens lost, %d repeated, %d out of order; %d streams cut, %d otherwise wrong; such as: %s",
		r.Lost, r.Repeated, r.Reordered, r.Cut, r.Other, r.Example)
}

// runLoad does what arg says in JSON. It prints "open" when each stream has got
// its first token, "full" when each has got all, and in the end its report.
func runLoad(arg string) error {
	var l load
	if err := json.Unmarshal([]byte(arg), &l); err != nil {
		return err
	}
	b, err := json.Marshal(summary(l.run()))
	if err == nil {
		fmt.Println(string(b))
	}
	return err
}

// run returns the streams when all have ended.
func (l load) run() []*loadStream {
	atOnce := l.AtOnce
	if atOnce == 0 {
		atOnce = l.Streams
	}
	streams := make([]*loadStream, l.Streams)
	alive := make(chan struct{}, atOnce)
	opening := make(chan struct{}, 64) // more would overflow what a listener holds
	location := make(chan string, 1)
	request := l.Request
	var open, full, ended sync.WaitGroup
	open.Add(l.Streams)
	full.Add(l.Streams)
	ended.Go(func() {
		open.Wait()
		fmt.Println("open")
		full.Wait()
		fmt.Println("full")
	})
	for i := range streams {
		alive <- struct{}{}
		opening <- struct{}{}
		s := &loadStream{load: &l, seen: make([]bool, l.Tokens)}
		s.open = sync.OnceFunc(func() { <-opening; open.Done() })
		s.full = sync.OnceFunc(full.Done)
		if l.Readers && i == 0 {
			s.located = func(path string) { location <- path }
		}
		streams[i] = s
		ended.Go(func() {
			s.read(request)
			s.open() // if there was no token
			s.full()
			<-alive
		})
		if l.Readers && i == 0 {
			request = getEventsOf(<-location)
		}
		time.Sleep(l.Every)
	}
	ended.Wait()
	return streams
}

// loadStream is one stream and what came of it.
type loadStream struct {
	load       *load
	open, full func()            // are called at the first token, and when all have come
	located    func(path string) // is called with the answer's Location; nil: nobody wants it

	began, first time.Time
	next         int    // the number of the token that is to come
	seen         []bool // the tokens that came
	tokens       int
	repeated     int
	reordered    int
	latencies    []time.Duration
	cut, other   error
}

// read opens the stream and reads it to its end.
func (s *loadStream) read(request string) {
	answer, err := s.ask(request)
	if s.located != nil {
		s.located(answer.path)
	}
	if err != nil {
		s.other = err
		return
	}
	defer answer.conn.Close()
	buf := make([]byte, 0, answer.size)
	for {
		if len(buf) == cap(buf) {
			s.other = fmt.Errorf("no end of a token in %q", buf[:40])
			return
		}
		n, err := answer.body.Read(buf[len(buf):cap(buf)])
		rest := s.scan(buf[:len(buf)+n], time.Now())
		buf = buf[:copy(buf[:cap(buf)], rest)]
		switch {
		case errors.Is(err, io.EOF):
			return
		case err != nil:
			s.cut = err
			return
		}
	}
}

type loadAnswer struct {
	conn net.Conn
	body io.Reader
	path string // of its Location
	size int    // of its buffers
}

func (s *loadStream) ask(request string) (a loadAnswer, err error) {
	s.began = time.Now()
	if a.conn, err = net.DialTimeout("tcp", s.load.Address, 10*time.Second); err != nil {
		return a, err
	}
	_ = a.conn.SetDeadline(s.began.Add(loadLimit))
	if _, err = io.WriteString(a.conn, request); err != nil {
		return a, err
	}
	a.size = 16 << 10
	if s.load.Streams > 1000 {
		a.size = 2 << 10
	}
	resp, err := http.ReadResponse(bufio.NewReaderSize(a.conn, a.size), nil)
	if err != nil {
		return a, err
	}
	a.body, a.path = resp.Body, resp.Header.Get("Location")
	if t := resp.Header.Get("Content-Type"); resp.StatusCode != 200 || !strings.HasPrefix(t, "text/event-stream") {
		reply, _ := io.ReadAll(io.LimitReader(resp.Body, 200))
		return a, fmt.Errorf("%s, %s: %s", resp.Status, t, reply)
	}
	return a, nil
}

// scan counts the tokens in p and returns what may be the beginning of one.
func (s *loadStream) scan(p []byte, now time.Time) []byte {
	for {
		begin := bytes.IndexByte(p, '~')
		if begin < 0 {
			return nil
		}
		p = p[begin:]
		end := bytes.IndexByte(p[1:], '~')
		if end < 0 {
			return p
		}
		s.token(p[1:1+end], now)
		p = p[end+2:]
	}
}

func (s *loadStream) token(marker []byte, now time.Time) {
	number, sent, ok := testbed.ParseToken(marker)
	switch {
	case !ok || number >= len(s.seen):
		s.other = fmt.Errorf("the token %q", marker)
		return
	case s.seen[number]:
		s.repeated++
		return
	case number < s.next:
		s.reordered++
	}
	s.seen[number] = true
	s.next = max(s.next, number+1)
	s.tokens++
	if number > 0 {
		s.latencies = append(s.latencies, now.Sub(sent))
	} else {
		s.first = now
		s.open()
	}
	if s.tokens == len(s.seen) {
		s.full()
	}
}

// summary puts the streams together.
func summary(streams []*loadStream) (r report) {
	var latencies, firsts []time.Duration
	for i, s := range streams {
		r.Tokens += s.tokens
		r.Lost += len(s.seen) - s.tokens
		r.Repeated += s.repeated
		r.Reordered += s.reordered
		if s.cut != nil {
			r.Cut++
		}
		if s.other != nil {
			r.Other++
		}
		if err := errors.Join(s.cut, s.other); err != nil && r.Example == "" {
			r.Example = fmt.Sprintf("stream %d, %d tokens: %v", i, s.tokens, err)
		}
		latencies = append(latencies, s.latencies...)
		if !s.first.IsZero() {
			firsts = append(firsts, s.first.Sub(s.began))
		}
	}
	r.P50, r.P99 = quantile(latencies, 0.5), quantile(latencies, 0.99)
	r.First = quantile(firsts, 0.5)
	return r
}

// quantile sorts all and returns the value below which a part q of them is; of
// none it is zero.
func quantile(all []time.Duration, q float64) time.Duration {
	if len(all) == 0 {
		return 0
	}
	slices.Sort(all)
	return all[int(q*float64(len(all)-1)+0.5)]
}

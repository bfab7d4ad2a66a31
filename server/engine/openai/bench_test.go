package openai

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"runtime"
	"testing"
)

// BenchmarkRecorded reads whole streams, from the upstream's bytes to chunks of ours,
// one event at a time as a server sends them that has the next one later. It reports
// what a chunk costs, and which share of them repeats the one before.
func BenchmarkRecorded(b *testing.B) {
	recorded(b, func(name string, chunks [][]byte) {
		b.Run(name, func(b *testing.B) {
			e := newEngine(b, Config{BaseURL: "http://localhost"})
			whole := body(chunks)
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			for b.Loop() {
				s := &stream{engine: e, ctx: b.Context(), events: eventReader{r: &oneEventReader{whole}}}
				for {
					if _, err := s.Next(true); err == io.EOF {
						break
					} else if err != nil {
						b.Fatal(err)
					}
				}
			}
			runtime.ReadMemStats(&after)
			n := float64(b.N * len(chunks))
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/n, "ns/chunk")
			b.ReportMetric(float64(after.Mallocs-before.Mallocs)/n, "allocs/chunk")
			b.ReportMetric(float64(after.TotalAlloc-before.TotalAlloc)/n, "B/chunk")
			b.ReportMetric(0, "ns/op")
			reportTemplates(b, e, chunks)
		})
	})
}

// oneEventReader reads one event at a time.
type oneEventReader struct{ rest []byte }

func (r *oneEventReader) Read(p []byte) (int, error) {
	if len(r.rest) == 0 {
		return 0, io.EOF
	}
	end := bytes.Index(r.rest, []byte("\n\n")) + 2
	n := copy(p, r.rest[:end])
	r.rest = r.rest[n:]
	return n, nil
}

// reportTemplates reports how many of the chunks repeat the one before.
func reportTemplates(b *testing.B, e *Engine, chunks [][]byte) {
	s := &stream{engine: e, ctx: b.Context()}
	repeats := 0
	for _, data := range chunks {
		if _, ok := s.template.match(data); ok {
			repeats++
		}
		if _, err := s.next(data); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(100*repeats)/float64(len(chunks)), "%repeat")
}

// BenchmarkDecode has the chunks of text of each server decoded and translated, and
// taken by the template, where they are.
func BenchmarkDecode(b *testing.B) {
	e := newEngine(b, Config{BaseURL: "http://localhost"})
	for _, server := range servers {
		chunks := server.chunks(20)
		chunks = chunks[1 : len(chunks)-len(server.last)]
		for _, templates := range []bool{false, true} {
			name := map[bool]string{false: "json", true: "template"}[templates]
			s := &stream{engine: e, ctx: b.Context()}
			if _, err := s.next(chunks[0]); err != nil {
				b.Fatal(err)
			}
			if _, ok := s.template.match(chunks[1]); templates && !ok {
				continue
			}
			b.Run(server.name+"/"+name, func(b *testing.B) {
				b.ReportAllocs()
				for i := 0; b.Loop(); i++ {
					if !templates {
						s.template.field = nil
					}
					if _, err := s.next(chunks[i%len(chunks)]); err != nil {
						b.Fatal(err)
					}
				}
			})
		}
	}
}

// BenchmarkExchange has answers come over a loopback connection, as net/http's server
// sends them: an event in a chunk, or as many as there are. What it costs is both
// sides' work.
func BenchmarkExchange(b *testing.B) {
	chunks := servers[1].chunks(2000)
	for _, server := range []struct {
		name   string
		events int
	}{{"paced", 1}, {"flat-out", 1000}} {
		b.Run(server.name, func(b *testing.B) {
			e := newEngine(b, Config{BaseURL: "http://" + chunkedServer(b, chunks, server.events)})
			b.ReportAllocs()
			for b.Loop() {
				if err := generate(b.Context(), e, chat(), ignore); err != nil {
					b.Fatal(err)
				}
				e.drains.Wait()
			}
			n := float64(b.N * len(chunks))
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/n, "ns/chunk")
		})
	}
}

// chunkedServer answers requests on a loopback port with a chunked body, of which it
// writes so many events at once.
func chunkedServer(tb testing.TB, chunks [][]byte, events int) (address string) {
	tb.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { l.Close() })
	var pieces [][]byte
	for rest := body(chunks); len(rest) > 0; {
		var piece bytes.Buffer
		for range events {
			if end := bytes.Index(rest, []byte("\n\n")) + 2; len(rest) > 0 && piece.Len() < 2048 {
				piece.Write(rest[:end])
				rest = rest[end:]
			}
		}
		pieces = append(pieces, fmt.Appendf(nil, "%x\r\n%s\r\n", piece.Len(), piece.Bytes()))
	}
	serve := func(conn net.Conn) {
		defer conn.Close()
		for r := bufio.NewReader(conn); ; {
			req, err := http.ReadRequest(r)
			if err != nil {
				return
			}
			_, _ = io.Copy(io.Discard, req.Body)
			_, _ = io.WriteString(conn, head+"\r\n")
			for _, piece := range pieces {
				if _, err := conn.Write(piece); err != nil {
					return
				}
			}
			_, _ = io.WriteString(conn, "0\r\n\r\n")
		}
	}
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go serve(conn)
		}
	}()
	return l.Addr().String()
}

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
// what a chunk costs, and which share of them each decoder takes.
func BenchmarkRecorded(b *testing.B) {
	recorded(b, func(name string, chunks [][]byte) {
		b.Run(name, func(b *testing.B) {
			e := newEngine(b, Config{BaseURL: "http://localhost"})
			whole := body(chunks)
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			for b.Loop() {
				s := &stream{engine: e, ctx: b.Context(), events: events{r: &eventReader{whole}}}
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
			reportDecoders(b, chunks)
		})
	})
}

// eventReader reads one event at a time.
type eventReader struct{ rest []byte }

func (r *eventReader) Read(p []byte) (int, error) {
	if len(r.rest) == 0 {
		return 0, io.EOF
	}
	end := bytes.Index(r.rest, []byte("\n\n")) + 2
	n := copy(p, r.rest[:end])
	r.rest = r.rest[n:]
	return n, nil
}

func reportDecoders(b *testing.B, chunks [][]byte) {
	c := new(wireChunk)
	var like, fast, slow float64
	for _, data := range chunks {
		switch {
		case c.decodeLike(data):
			like++
		case decodeFast(data, c):
			fast++
		default:
			slow++
			*c = wireChunk{}
			_ = decodeSlowly(data, c)
		}
	}
	n := float64(len(chunks)) / 100
	b.ReportMetric(like/n, "%like")
	b.ReportMetric(fast/n, "%fast")
	b.ReportMetric(slow/n, "%slow")
}

// BenchmarkDecoders has each decoder take the chunks of text of each server, as far as
// it does.
func BenchmarkDecoders(b *testing.B) {
	for _, s := range servers {
		chunks := s.chunks(20)
		chunks = chunks[1 : len(chunks)-len(s.last)]
		c := new(wireChunk)
		for _, decoder := range []struct {
			name   string
			decode func(data []byte) bool
		}{
			{"like", func(data []byte) bool { return c.decodeLike(data) }},
			{"fast", func(data []byte) bool { return decodeFast(data, c) }},
			{"slow", func(data []byte) bool { *c = wireChunk{}; return decodeSlowly(data, c) == nil }},
		} {
			*c = wireChunk{}
			decodeFast(chunks[0], c)
			if !decoder.decode(chunks[1]) {
				continue
			}
			b.Run(s.name+"/"+decoder.name, func(b *testing.B) {
				b.ReportAllocs()
				for i := 0; b.Loop(); i++ {
					if !decoder.decode(chunks[i%len(chunks)]) {
						b.Fatalf("it does not take %s", chunks[i%len(chunks)])
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
	for name, events := range map[string]int{"paced": 1, "flat-out": 1000} {
		b.Run(name, func(b *testing.B) {
			e := newEngine(b, Config{BaseURL: "http://" + chunkedServer(b, chunks, events)})
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

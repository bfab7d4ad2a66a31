package bridge

import (
	"io"
	"net/http"
	"sync/atomic"

	"github.com/sluice-sse/sluice/bridge/failure"
)

// smallBody is how many bytes of a body are held without being counted.
const smallBody = 64 << 10

// bodyMemory bounds what all bodies together take that are being read, or wait to be
// decoded: a thousand clients that send all but the last byte of the largest one would
// else take gigabytes, and need send nothing more for as long as a body may take.
type bodyMemory struct {
	most int64
	held atomic.Int64
}

func (m *bodyMemory) hold(n int64) bool {
	if m.held.Add(n) > m.most {
		m.held.Add(-n)
		return false
	}
	return true
}

// readAll reads a body to its end. The caller calls release when it no longer needs it.
func (m *bodyMemory) readAll(r *http.Request) (body []byte, release func(), err error) {
	var held int64
	defer func() {
		if err != nil {
			m.held.Add(-held)
		}
	}()
	for {
		if len(body) == cap(body) {
			size := max(512, 2*len(body))
			if declared := r.ContentLength + 1; declared > int64(len(body)) && (declared < int64(size) || declared <= smallBody) {
				size = int(declared) // and one, so that the end is found
			}
			if more := int64(size) - smallBody - held; more > 0 {
				if !m.hold(more) {
					return nil, nil, failure.Overloaded("as much of large requests is on its way as may be: try again", "body_memory")
				}
				held += more
			}
			body = append(make([]byte, 0, size), body...)
		}
		n, err := r.Body.Read(body[len(body):cap(body)])
		body = body[:len(body)+n]
		if err == io.EOF {
			return body, func() { m.held.Add(-held) }, nil
		}
		if err != nil {
			return nil, nil, err
		}
	}
}

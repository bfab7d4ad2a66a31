package openai

import (
	"bufio"
	"compress/gzip"
	"fmt"
	"io"
	"net/http"
	"strings"
)

// gzipMagic is what a body in gzip begins with, and no event stream does.
const gzipMagic = "\x1f\x8b"

// decodeContent takes the content encoding off an answer's body. None is asked for,
// but some gateways compress whatever is asked (Anionex/agent-vision-toolkit#36). One
// that is not known here is an error, for a success; of a refusal, the status counts.
func decodeContent(res *http.Response) error {
	switch encoding := strings.ToLower(res.Header.Get("Content-Encoding")); encoding {
	case "", "identity":
	case "gzip", "x-gzip":
		res.Body = struct {
			io.Reader
			io.Closer
		}{&unzipper{r: res.Body}, res.Body}
	default:
		if res.StatusCode >= 200 && res.StatusCode < 300 {
			return fmt.Errorf("an answer in the content encoding %q, which was not asked for", encoding)
		}
	}
	return nil
}

// unzipper reads what r has in gzip, or as it is when it is not in gzip at all
// (jolibrain/deepdetect#176). It reads nothing before it is read. What the other side
// has flushed it returns at once.
type unzipper struct {
	r      io.Reader
	reader io.Reader // of the content; nil: nothing has been read
}

// Read implements io.Reader.
func (u *unzipper) Read(p []byte) (int, error) {
	if u.reader == nil {
		r := bufio.NewReader(u.r)
		u.reader = r
		if magic, _ := r.Peek(len(gzipMagic)); string(magic) == gzipMagic {
			z, err := gzip.NewReader(r)
			if err != nil {
				return 0, err
			}
			u.reader = z
		}
	}
	return u.reader.Read(p)
}

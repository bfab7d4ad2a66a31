package openai

import (
	"bufio"
	"compress/gzip"
	"fmt"
	"io"
	"net/http"
	"strings"
)

// gzipMagic is what gzip begins with, and no event stream does.
const gzipMagic = "\x1f\x8b"

// decodeContent removes the content encoding of a response. We do not ask for one, but
// some gateways compress anyway (Anionex/agent-vision-toolkit#36). An encoding other
// than gzip is an error, except for a response that is one already: it has a status.
func decodeContent(res *http.Response) error {
	switch encoding := strings.ToLower(res.Header.Get("Content-Encoding")); encoding {
	case "", "identity":
	case "gzip", "x-gzip":
		res.Body = readCloser{&gzipReader{r: res.Body}, res.Body}
	default:
		if res.StatusCode >= 200 && res.StatusCode < 300 {
			return fmt.Errorf("an answer in the content encoding %q, which was not asked for", encoding)
		}
	}
	return nil
}

// gzipReader decompresses r, if that is compressed at all (jolibrain/deepdetect#176). It
// does not read before it is read, and returns at once what the other side has flushed.
type gzipReader struct {
	r       io.Reader
	content io.Reader // nil until the first Read
}

// Read implements io.Reader.
func (g *gzipReader) Read(p []byte) (int, error) {
	if g.content == nil {
		r := bufio.NewReader(g.r)
		g.content = r
		if magic, _ := r.Peek(len(gzipMagic)); string(magic) == gzipMagic {
			z, err := gzip.NewReader(r)
			if err != nil {
				return 0, err
			}
			g.content = z
		}
	}
	return g.content.Read(p)
}

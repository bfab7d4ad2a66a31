package openai

import (
	"bytes"
	"fmt"
	"io"
	"net/http/httputil"
	"strings"
	"testing"
	"testing/iotest"
)

func TestChunked(t *testing.T) {
	for _, tc := range []struct {
		name, body, want string
		err              error
		excess           bool
	}{
		{"some chunks", "3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n", "abcde", nil, false},
		{"none", "0\r\n\r\n", "", nil, false},
		{"sizes", "000a\r\n0123456789\r\n0A\r\n0123456789\r\n0\r\n\r\n", "01234567890123456789", nil, false},
		{"extensions", "3;a=b;c\r\nabc\r\n0 \t\r\n\r\n", "abc", nil, false},
		{"a trailer", "3\r\nabc\r\n0\r\nX: y\r\nZ: 0\r\n\r\n", "abc", nil, false},
		{"framing as data", "6\r\n\r\n0\r\n\r\r\n0\r\n\r\n", "\r\n0\r\n\r", nil, false},
		{"behind the end", "1\r\na\r\n0\r\n\r\nHTTP", "a", nil, true},
		{"cut in a size", "3\r\nabc\r\n1", "abc", io.ErrUnexpectedEOF, false},
		{"cut in data", "3\r\nab", "ab", io.ErrUnexpectedEOF, false},
		{"cut behind data", "3\r\nabc", "abc", io.ErrUnexpectedEOF, false},
		{"cut in the end", "3\r\nabc\r\n0\r\n\r", "abc", io.ErrUnexpectedEOF, false},
		{"no size", "\r\nabc", "", errChunked, false},
		{"no size but an extension", ";a\r\nabc", "", errChunked, false},
		{"no number", "g\r\nabc", "", errChunked, false},
		{"a number below zero", "-1\r\nabc", "", errChunked, false},
		{"a number too large", "10000000000000000\r\nabc", "", errChunked, false},
		{"a space before an extension", "3 ;a\r\nabc\r\n0\r\n\r\n", "", errChunked, false},
		{"a trailer with an LF alone", "0\r\nX: y\nZ: 0\r\n\r\n", "", nil, false},
		{"a trailer with a CR within", "0\r\nX: \ry\r\n\r\n", "", nil, false},
		{"an empty line of a trailer without CR", "0\r\nX: y\r\n\n", "", errChunked, false},
		{"a number in two", "1 1\r\nabc", "", errChunked, false},
		{"no CR", "3\nabc\r\n0\r\n\r\n", "", errChunked, false},
		{"no LF", "3\rabc\r\n0\r\n\r\n", "", errChunked, false},
		{"an extension without CR", "3;a\nabc\r\n0\r\n\r\n", "", errChunked, false},
		{"more data than said", "3\r\nabcd\r\n0\r\n\r\n", "abc", errChunked, false},
		{"framing without end", "3;" + strings.Repeat("a", maxFraming) + "\r\nabc\r\n", "", errChunked, false},
		{"a trailer without end", "0\r\n" + strings.Repeat("a: b\r\n", maxFraming/5), "", errChunked, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			for size := 1; size <= len(tc.body); size += 1 + len(tc.body)/500 {
				r := &chunkedReader{r: iotest.OneByteReader(strings.NewReader(tc.body[size:])), buffered: []byte(tc.body[:size])}
				got, err := io.ReadAll(r)
				if string(got) != tc.want || err != tc.err {
					t.Fatalf("%d bytes with the head: got %q, %v, want %q, %v", size, got, err, tc.want, tc.err)
				}
				if size > len(tc.body)-4 && r.excess != tc.excess {
					t.Errorf("behind the end: %v, want %v", r.excess, tc.excess)
				}
			}
		})
	}
}

// TestChunkedEnd checks that the end is returned together with the last data.
func TestChunkedEnd(t *testing.T) {
	r := &chunkedReader{r: strings.NewReader("3\r\nabc\r\n0\r\n\r\n")}
	if n, err := r.Read(make([]byte, 100)); n != 3 || err != io.EOF {
		t.Errorf("got %d, %v, want 3, EOF", n, err)
	}
}

// TestChunkedDataEnd checks that data without its end is an error before a line end comes.
func TestChunkedDataEnd(t *testing.T) {
	r, w := io.Pipe()
	defer w.Close()
	go w.Write([]byte("3\r\nabcd"))
	got, err := io.ReadAll(&chunkedReader{r: r})
	if string(got) != "abc" || err != errChunked {
		t.Errorf("got %q, %v, want abc, %v", got, err, errChunked)
	}
}

// FuzzChunked compares chunkedReader with net/http's: what it accepts, that one decodes to
// the same. It also compares reading all at once and in pieces.
func FuzzChunked(f *testing.F) {
	f.Add([]byte("3\r\nabc\r\n2;x=y\r\nde\r\n0\r\nA: b\r\n\r\n"), 5)
	f.Add([]byte("1\r\na\r\n0\r\n\r\nHTTP/1.1 200 OK"), 1)
	f.Add([]byte("1 ;x=y\r\na\r\n0\r\n\r\n"), 1)
	f.Fuzz(func(t *testing.T, body []byte, size int) {
		whole, err := io.ReadAll(&chunkedReader{r: bytes.NewReader(body)})
		if size < 1 || size > 1<<16 {
			size = 1
		}
		var pieces bytes.Buffer
		_, pieceErr := io.CopyBuffer(struct{ io.Writer }{&pieces}, struct{ io.Reader }{&chunkedReader{r: bytes.NewReader(body)}}, make([]byte, size))
		if !bytes.Equal(whole, pieces.Bytes()) || fmt.Sprint(err) != fmt.Sprint(pieceErr) {
			t.Errorf("%q, %v; %d bytes at a time %q, %v", whole, err, size, pieces.Bytes(), pieceErr)
		}
		if err != nil {
			return
		}
		if theirs, err := io.ReadAll(httputil.NewChunkedReader(bytes.NewReader(body))); err != nil || !bytes.Equal(theirs, whole) {
			t.Errorf("got %q; net/http has %q, %v", whole, theirs, err)
		}
	})
}

package telemetry

import (
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"
)

// Who asks for metrics and does not read them does not take the place of others for ever,
// and the next request on a connection has all the time that it wants.
func TestScrapesEnd(t *testing.T) {
	ended := make(chan error, 1)
	mux := http.NewServeMux()
	mux.Handle("/metrics", within(50*time.Millisecond, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		n := 1
		if r.URL.RawQuery == "" {
			n = 1 << 20
		}
		var err error
		for piece := make([]byte, 64<<10); n > 0 && err == nil; n-- {
			_, err = w.Write(piece)
		}
		if r.URL.RawQuery == "" {
			ended <- err
		}
	})))
	mux.HandleFunc("/profile", func(w http.ResponseWriter, _ *http.Request) {
		time.Sleep(100 * time.Millisecond) // longer than the one before may have taken
		_, _ = io.WriteString(w, "profile")
	})
	s := httptest.NewServer(notForPages(mux, true))
	defer s.Close()
	conn, err := net.Dial("tcp", s.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := io.WriteString(conn, "GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	select {
	case err := <-ended:
		if err == nil {
			t.Error("all was written to a client that reads nothing")
		}
	case <-time.After(20 * time.Second):
		t.Error("it waits for a client that reads nothing")
	}
	for _, path := range []string{"/metrics?short", "/profile"} { // on one connection
		resp, err := s.Client().Get(s.URL + path)
		if err != nil {
			t.Fatal(path, err)
		}
		if n, err := io.Copy(io.Discard, resp.Body); n == 0 || err != nil {
			t.Errorf("%s: got %d bytes, %v", path, n, err)
		}
		resp.Body.Close()
	}
}

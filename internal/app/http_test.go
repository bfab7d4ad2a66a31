package app

import (
	"net"
	"slices"
	"testing"
)

// Which names are looked at depends on where the server listens.
func TestHostsOfListener(t *testing.T) {
	for _, tt := range []struct {
		flag, listens string
		allow, want   []string
	}{
		{"127.0.0.1:8080", "127.0.0.1", nil, []string{"127.0.0.1", "127.0.0.1"}},
		{"localhost:0", "::1", nil, []string{"::1", "localhost"}},
		{"debian:8080", "127.0.1.1", []string{"a.test"}, []string{"127.0.1.1", "a.test", "debian"}}, // as Debian's /etc/hosts has it
		{":8080", "::", nil, nil},
		{"0.0.0.0:8080", "0.0.0.0", []string{"a.test"}, []string{"a.test"}},
		{"10.0.0.1:8080", "10.0.0.1", nil, nil},
	} {
		f := &bridgeFlags{HTTP: tt.flag, AllowHost: tt.allow}
		if got := f.hosts(&net.TCPAddr{IP: net.ParseIP(tt.listens), Port: 8080}); !slices.Equal(got, tt.want) {
			t.Errorf("--http %s on %s: got %q, want %q", tt.flag, tt.listens, got, tt.want)
		}
	}
}

package bridge

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"

	"github.com/rs/cors"
	"google.golang.org/grpc/codes"

	"github.com/sluice-sse/sluice/bridge/failure"
	"github.com/sluice-sse/sluice/bridge/openai"
)

// hosts are the names that a server answers to, whatever the port.
//
// A page whose own name resolves to 127.0.0.1 is of the same origin as a server there,
// to the browser and to all that looks at Origin; only Host has the page's name (DNS
// rebinding: modelcontextprotocol/go-sdk#760). The addresses that stand in a URL as
// such cannot be had that way.
type hosts struct {
	names []string // in lower case; an address as netip has it
	any   bool     // no name is refused
}

// newHosts returns the names; "*" is any. Without a name, any is answered to. It returns
// an error for what is not a name or an address, with or without a port.
func newHosts(names []string) (hosts, error) {
	h := hosts{any: len(names) == 0}
	for _, name := range names {
		if name == "*" {
			h.any = true
			continue
		}
		canonical := hostName(name)
		if canonical == "" || strings.ContainsFunc(name, notOfHost) {
			return h, fmt.Errorf("allow the host %q: it is not a name such as sluice.example.com, or an address", name)
		}
		h.names = append(h.names, canonical)
	}
	return h, nil
}

// notOfHost tells what a Host never has: browsers send names of other scripts in
// their ASCII form (xn--…).
func notOfHost(r rune) bool {
	return r <= ' ' || r >= 0x7f || strings.ContainsRune(`/\@?#*,"`, r)
}

// check refuses a request for another host, or for what is none. A request that names none is from no
// browser: HTTP/1.0 probes send such ones (haproxy's httpchk).
func (h hosts) check(r *http.Request) error {
	if len(r.Host) > maxHost {
		return failure.Invalid(http.StatusBadRequest, codes.InvalidArgument, "Host", "a Host has at most %d characters", maxHost)
	}
	if h.any || r.Host == "" {
		return nil
	}
	name := hostName(r.Host)
	if name == "localhost" || slices.Contains(h.names, name) {
		return nil
	}
	if addr, err := netip.ParseAddr(name); err == nil && (addr.IsLoopback() || addr == localAddr(r)) {
		return nil
	}
	return failure.Invalid(http.StatusForbidden, codes.PermissionDenied, "Host",
		"this server does not answer to the name %q: it can be allowed with --allow-host", failure.Clip(r.Host))
}

// localAddr is the address that a request came to, by which probes may call a server
// that they cannot name.
func localAddr(r *http.Request) netip.Addr {
	if tcp, ok := r.Context().Value(http.LocalAddrContextKey).(*net.TCPAddr); ok {
		return tcp.AddrPort().Addr().Unmap()
	}
	return netip.Addr{}
}

// hostName is a Host without its port, in the one form of the many that it can have,
// or "" if it has none.
func hostName(host string) string {
	name, _, err := net.SplitHostPort(host)
	var addrErr *net.AddrError
	if errors.As(err, &addrErr) { // there is no port
		name = host
		if strings.HasPrefix(name, "[") && strings.HasSuffix(name, "]") {
			name = name[1 : len(name)-1]
		}
	}
	name = strings.ToLower(strings.TrimSuffix(name, "."))
	if addr, err := netip.ParseAddr(name); err == nil {
		return addr.Unmap().String()
	}
	return name
}

// guardOrigin lets pages of other origins call next when they are allowed to, and keeps
// all others away. "*" allows every origin.
//
// CORS alone would not do: it says who may read an answer, and a page can post
// without asking, as long as it names no Content-Type, and leave the user with the
// bill. So requests that browsers send for pages of other origins are refused
// (net/http.CrossOriginProtection; OWASP's CSRF cheat sheet, fetch metadata).
//
// Cookies are not among what pages may send, since nothing here reads any: a
// caller's credentials are in the Authorization header.
func guardOrigin(config Config, log *slog.Logger, next http.Handler) (http.Handler, error) {
	origins := config.CORSOrigins
	if slices.Contains(origins, "*") {
		return allowOrigins(config, next), nil
	}
	protection := http.NewCrossOriginProtection()
	for _, origin := range origins {
		if err := protection.AddTrustedOrigin(origin); err != nil {
			return nil, fmt.Errorf("allow the origin %q: %w", origin, err)
		}
	}
	protection.SetDenyHandler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		writeError(w, r, log, failure.Invalid(http.StatusForbidden, codes.PermissionDenied, "Origin", "pages of other origins may not call this server"))
	}))
	next = protection.Handler(next)
	if len(origins) == 0 { // to rs/cors that means all
		return next, nil
	}
	return allowOrigins(config, next), nil
}

func allowOrigins(config Config, next http.Handler) http.Handler {
	options := cors.Options{
		AllowedOrigins: config.CORSOrigins,
		AllowedMethods: []string{"GET", "HEAD", "POST"},
		AllowedHeaders: append([]string{"Authorization", "Content-Type", idempotencyKeyHeader, lastEventIDHeader, requestIDHeader}, openai.RequestHeaders...),
		ExposedHeaders: append([]string{"Location", "Retry-After", requestIDHeader}, openai.ResponseHeaders...),
		MaxAge:         600,
	}
	if len(config.Expose) > 0 {
		options.AllowedMethods = append(options.AllowedMethods, "PUT", "PATCH", "DELETE")
		options.AllowedHeaders = append(append(options.AllowedHeaders, "Grpc-Timeout"), config.ForwardHeaders...)
		options.ExposedHeaders = append(options.ExposedHeaders, "*") // whatever a server's metadata are called
	}
	return cors.New(options).Handler(next)
}

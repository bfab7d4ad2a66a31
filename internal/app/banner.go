package app

import (
	"fmt"
	"net"
	"net/url"
	"regexp"
	"strings"
)

// What is printed at the start: where the program listens, what is behind it, and
// commands to try it, which work as they are.

// address is where a face listens.
type address struct {
	addr string       // "": nowhere
	tls  *listenerTLS // nil: none
}

// banner returns it for the addresses of the two faces, the lines about what is behind
// them, and a request that works there.
func banner(http, grpc address, behind string, e example) string {
	var serves, try []string
	if http.addr != "" {
		serves = append(serves, "HTTP on "+http.url(http.addr, "").String())
		curl := "curl" + http.trust(curlTLS) + e.certificate(curlTLS)
		if e.request == "" {
			try = append(try, fmt.Sprintf("%s %s", curl, http.shellURL("/openapi.json")))
		} else {
			try = append(try,
				fmt.Sprintf("%s -N %s -H 'Content-Type: application/json'%s -d '%s'", curl, http.shellURL("/v1/completions"), e.header(), e.request),
				fmt.Sprintf("%s %s%s", curl, http.shellURL("/v1/models"), e.header()))
		}
	}
	if grpc.addr != "" {
		on := "gRPC on " + grpc.addr
		if grpc.tls != nil {
			on += " over TLS"
		}
		serves = append(serves, on)
		try = append(try, fmt.Sprintf("grpcurl%s%s%s -d '%s' %s completion.v1.CompletionService/StreamCompletion",
			grpc.trust(grpcurlTLS), e.certificate(grpcurlTLS), e.header(), e.request, shellQuote(reachable(grpc.addr))))
	}
	return fmt.Sprintf("sluice serves %s\n%s\n  %s\n", strings.Join(serves, " and "), behind, strings.Join(try, "\n  "))
}

// tlsOptions are what a command calls what it is told about TLS.
type tlsOptions struct{ none, authority, blind, cert, key string }

var (
	curlTLS    = tlsOptions{"", "--cacert", "-k", "--cert", "--key"}
	grpcurlTLS = tlsOptions{" -plaintext", "-cacert", "-insecure", "-cert", "-key"}
)

// trust is what a command needs to be told so that it takes the certificate of this face
// under the address that is printed: to trust it, or, where it is for other names, not to
// look at it.
func (a address) trust(o tlsOptions) string {
	if a.tls == nil {
		return o.none
	}
	host, _, _ := net.SplitHostPort(reachable(a.addr))
	if a.tls.store.Pair().Certificate.Leaf.VerifyHostname(host) != nil {
		return " " + o.blind
	}
	return " " + o.authority + " " + shellQuote(a.tls.file)
}

// Requests that a server answers: with messages, as many models take no prompt.
const (
	exampleDefault = `{"messages":[{"role":"user","content":"Hello from the other side"}]}`
	exampleEcho    = `{"model":"echo","messages":[{"role":"user","content":"Hello from the other side"}]}`
)

// example is a request that works.
type example struct {
	request string // "": nobody knows one, and the description says what there is
	key     bool   // with a key, which is the caller's to put in
	cert    bool   // with a certificate, which is, too
}

// header is the words of a command that send the key.
func (e example) header() string {
	if !e.key {
		return ""
	}
	return ` -H "Authorization: Bearer $KEY"`
}

// certificate is the words of a command that show the certificate.
func (e example) certificate(o tlsOptions) string {
	if !e.cert {
		return ""
	}
	return fmt.Sprintf(` %s "$CERT" %s "$CERT_KEY"`, o.cert, o.key)
}

// example is one that works whatever is upstream: where that has no default model, it
// names the embedded one.
func (f *serverFlags) example() example {
	e := example{request: exampleDefault}
	if f.configured() && !f.AllowAnonymous {
		e.cert = f.APIKeys == "" && f.JWTIssuer == ""
		e.key = !e.cert
	}
	if f.OpenAIBaseURL == "" || f.Model == "" {
		e.request = exampleEcho
	}
	return e
}

// upstreamLines tell what is behind a server; of the key, only that there is one.
func (f *serverFlags) upstreamLines(hasKey bool) string {
	if f.OpenAIBaseURL == "" {
		return "  upstream  none: there is only the embedded model echo (see --openai-base-url)\n"
	}
	key := "without a key"
	if hasKey {
		key = "with a key"
	}
	model := "no default: a request names one (see --model)"
	if f.Model != "" {
		model = f.Model + ", unless a request names another"
	}
	return fmt.Sprintf("  upstream  %s, %s\n  model     %s\n", f.OpenAIBaseURL, key, model)
}

// serverLine tells what is behind a bridge, which knows no upstream.
func (c *bridgeCommand) serverLine() string {
	line := fmt.Sprintf("  server    %s\n", c.Server)
	if len(c.Expose) > 0 {
		line += fmt.Sprintf("  exposes   %s\n", strings.Join(c.Expose, " "))
	}
	return line
}

// example is one that works: a server whose methods are exposed may have no completions.
func (c *bridgeCommand) example() example {
	if len(c.Expose) > 0 {
		return example{}
	}
	return example{request: exampleEcho}
}

// reachable is an address under which this machine reaches what listens on addr,
// which may be all addresses.
func reachable(addr string) string {
	host, port, err := net.SplitHostPort(addr)
	if ip := net.ParseIP(host); err == nil && ip.IsUnspecified() {
		return net.JoinHostPort("127.0.0.1", port)
	}
	return addr
}

// url is the URL of a path at an address of this face.
func (a address) url(addr, path string) *url.URL {
	u := &url.URL{Scheme: "http", Host: addr, Path: path}
	if a.tls != nil {
		u.Scheme = "https"
	}
	return u
}

// shellURL is the URL of a path as a word of a shell command.
func (a address) shellURL(path string) string {
	return shellQuote(a.url(reachable(a.addr), path).String())
}

// plainWord is what a shell takes as it is. The brackets of an IPv6 address are a pattern.
var plainWord = regexp.MustCompile(`^[\w./:@%+=-]+$`)

// shellQuote makes a word of a shell command.
func shellQuote(word string) string {
	if plainWord.MatchString(word) {
		return word
	}
	return "'" + strings.ReplaceAll(word, "'", `'\''`) + "'"
}

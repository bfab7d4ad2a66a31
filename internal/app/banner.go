package app

import (
	"fmt"
	"net"
	"net/url"
	"strings"
)

// What is printed at the start: where the program listens, what is behind it, and
// commands to try it, which work as they are.

// banner returns it for the addresses of the two faces, "" where there is none, the lines
// about what is behind them, and a request that works there.
func banner(http, grpc, behind string, e example) string {
	var serves, try []string
	if http != "" {
		serves = append(serves, "HTTP on http://"+http)
		try = append(try,
			fmt.Sprintf("curl -N %s -H 'Content-Type: application/json'%s -d '%s'", shellURL(http, "/v1/completions"), e.header(), e.request),
			"curl "+shellURL(http, "/v1/models")+e.header())
	}
	if grpc != "" {
		serves = append(serves, "gRPC on "+grpc)
		try = append(try, fmt.Sprintf("grpcurl -plaintext%s -d '%s' %s completion.v1.CompletionService/StreamCompletion", e.header(), e.request, shellQuote(reachable(grpc))))
	}
	return fmt.Sprintf("sluice serves %s\n%s\n  %s\n", strings.Join(serves, " and "), behind, strings.Join(try, "\n  "))
}

// Requests that a server answers: with messages, as many models take no prompt.
const (
	exampleDefault = `{"messages":[{"role":"user","content":"Hello from the other side"}]}`
	exampleEcho    = `{"model":"echo","messages":[{"role":"user","content":"Hello from the other side"}]}`
)

// example is a request that works.
type example struct {
	request string
	key     bool // with a key, which is the caller's to put in
}

// header is the words of a command that send the key.
func (e example) header() string {
	if !e.key {
		return ""
	}
	return ` -H "Authorization: Bearer $KEY"`
}

// example is one that works whatever is upstream: where that has no default model, it
// names the embedded one.
func (f *serverFlags) example() example {
	e := example{exampleDefault, f.configured() && !f.AllowAnonymous}
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
	return fmt.Sprintf("  server    %s\n", c.Server)
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

// shellURL is the URL of a path as a word of a shell command.
func shellURL(addr, path string) string {
	u := url.URL{Scheme: "http", Host: reachable(addr), Path: path}
	return shellQuote(u.String())
}

// shellQuote quotes the brackets of an IPv6 address, which a shell takes for a pattern.
func shellQuote(word string) string {
	if strings.Contains(word, "[") {
		return "'" + word + "'"
	}
	return word
}

package bridge

import (
	"net/http"
	"testing"
)

func TestNegotiate(t *testing.T) {
	tests := []struct{ accept, want string }{
		{"", eventStream},
		{" ", eventStream},
		{"*/*", eventStream},
		{"text/event-stream", eventStream},
		{"text/*", eventStream},
		{"TEXT/Event-Stream; charset=utf-8", eventStream},
		{"application/json, text/event-stream", eventStream}, // MCP's, and openai-python's
		{"application/json;q=1, text/event-stream;q=0.1", eventStream},
		{"text/event-stream, */*", eventStream}, // what the gateway takes for JSON
		{"application/json, text/event-stream;q=0", jsonType},
		{"*/*, text/event-stream;q=0", jsonType},
		{"application/json", jsonType},
		{"application/*", jsonType},
		{"application/json;q=0.5", jsonType},
		{"application/json, */*", jsonType},
		{"application/json, text/plain, */*", jsonType}, // axios's
		{"application/json;q=0.5, */*", eventStream},
		{"application/json;q=0, */*", eventStream},
		{"text/html, application/xhtml+xml, */*;q=0.8", eventStream},
		{"image/png", ""},
		{"text/plain", ""},
		{"text/event-stream;q=0", ""},
		{"*/*;q=0", ""},
		{"text/event-stream;q=x", ""},
		{";;", ""},
	}
	for _, tt := range tests {
		if got := negotiate(http.Header{"Accept": {tt.accept}}); got != tt.want {
			t.Errorf("%q: %q, want %q", tt.accept, got, tt.want)
		}
	}
	if got := negotiate(http.Header{"Accept": {"image/png", "application/json"}}); got != jsonType {
		t.Errorf("two headers: %q", got)
	}
}

package openai

import "testing"

// TestRedact checks that a key is replaced in each of its forms, and that one which is short
// or an ordinary word is not replaced within other words.
func TestRedact(t *testing.T) {
	for _, tc := range []struct{ key, words, want string }{
		{"x", `unexpected: the text "x" (x) =x`, `unexpected: the text "[key]" ([key]) =[key]`},
		{"x", "x", "[key]"},
		{"x", "max_x x_y xx", "max_x x_y xx"},
		{"ollama", "the ollamas of registry.ollama.ai", "the ollamas of registry.[key].ai"},
		{"ollama", "no such key: ollama.", "no such key: [key]."},
		{"ollama", `{"error":"key:\nollama\t"}`, `{"error":"key:\n[key]\t"}`},
		{"ollama", "?key=%20ollama&x=1", "?key=%20[key]&x=1"},
		{"ollama", `"\u0020ollama"`, `"\u0020[key]"`},
		{"key", "a key", "a [key]"},
		{"not-needed", "it is not-needed here", "it is [key] here"},
		{"a/b", `a/b a\/b a%2Fb a%2fb xa/b`, `[key] [key] [key] [key] xa/b`},
		{"é", "café é", "café [key]"},
		{"", "as it is", "as it is"},

		{"sk-1234567890", "xsk-1234567890y Bearersk-1234567890", "x[key]y Bearer[key]"},
		{"sk-12345/67890+", `sk-12345/67890+ sk-12345\/67890+ sk-12345%2F67890%2B sk-12345%2f67890%2b sk-12345%2F67890+`, `[key] [key] [key] [key] [key]`},
		{`sk-"123456\7890`, `sk-"123456\7890 sk-\"123456\\7890 sk-&#34;123456\7890`, `[key] [key] [key]`},
		{"sk-<123456>&7890", `sk-<123456>&7890 sk-\u003c123456\u003e\u00267890 sk-&lt;123456&gt;&amp;7890`, `[key] [key] [key]`},
	} {
		if got := newRedactor(tc.key).redact(tc.words); got != tc.want {
			t.Errorf("key %q: %s\n got %s\nwant %s", tc.key, tc.words, got, tc.want)
		}
	}
}

package openai

import (
	"encoding/json"
	"html"
	"net/url"
	"slices"
	"strings"
)

// redactor puts [key] where the key stands in words for the log, in any of the ways
// in which it may be written. The zero value has no key.
type redactor struct {
	forms []string
	// whole: only where it is a word of its own. A key that is short, or made of
	// ordinary words as local servers want one ("ollama", "not-needed"), stands within
	// other words, too, and gives nothing away there.
	whole bool
}

func newRedactor(key string) redactor {
	const ordinary = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ-_"
	if key == "" {
		return redactor{}
	}
	inJSON, _ := json.Marshal(key)                                  // with < > & as \u003c …
	plain := strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(key) // without
	escaped := []string{url.QueryEscape(key), url.PathEscape(key)}  // with %2F …
	forms := append(escaped, strings.ToLower(escaped[0]), key, plain, string(inJSON[1:len(inJSON)-1]),
		strings.ReplaceAll(plain, "/", `\/`), html.EscapeString(key))
	slices.SortFunc(forms, func(a, b string) int { return len(b) - len(a) }) // the whole of a form before a part of it
	return redactor{forms: slices.Compact(forms), whole: len(key) < 8 || strings.Trim(key, ordinary) == ""}
}

func (r redactor) redact(words string) string {
	for _, form := range r.forms {
		words = r.replace(words, form)
	}
	return words
}

func (r redactor) replace(words, form string) string {
	var out strings.Builder
	done := 0
	for from := 0; ; {
		i := strings.Index(words[from:], form)
		if i < 0 {
			break
		}
		i += from
		end := i + len(form)
		if r.whole && (endsInWord(words[:i]) && isWord(form[0]) || end < len(words) && isWord(words[end]) && isWord(form[len(form)-1])) {
			from = i + 1
			continue
		}
		out.WriteString(words[done:i])
		out.WriteString("[key]")
		done, from = end, end
	}
	return out.String() + words[done:]
}

// endsInWord tells whether a word goes on from s: not after an escape (\n, %20,
// \u0020), whose last letter is none.
func endsInWord(s string) bool {
	for _, escape := range []struct {
		mark string
		size int
	}{{`\`, 2}, {`%`, 3}, {`\u`, 6}} {
		if at := len(s) - escape.size; at >= 0 && strings.HasPrefix(s[at:], escape.mark) {
			return false
		}
	}
	return s != "" && isWord(s[len(s)-1])
}

// isWord tells whether a byte is of a word; those of letters beyond ASCII are.
func isWord(c byte) bool {
	return c == '_' || '0' <= c && c <= '9' || 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || c >= 0x80
}

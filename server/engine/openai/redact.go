package openai

import (
	"encoding/json"
	"html"
	"net/url"
	"slices"
	"strings"
)

// redactor replaces the key in texts for the log by [key], in any form in which it may
// be written. The zero redactor has no key.
type redactor struct {
	forms []string

	// Replace the key only where it is a word of its own. A key that is short, or made of
	// ordinary words such as "ollama" or "not-needed" for a local server, is a part of
	// other words, too, and gives nothing away there.
	wholeWords bool
}

func newRedactor(key string) redactor {
	const letters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ-_"
	if key == "" {
		return redactor{}
	}
	escapedJSON, _ := json.Marshal(key)                                 // with < > & as \u003c …
	plainJSON := strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(key) // without
	inURL := []string{url.QueryEscape(key), url.PathEscape(key)}        // with / as %2F …
	forms := append(inURL, strings.ToLower(inURL[0]), key, plainJSON, string(escapedJSON[1:len(escapedJSON)-1]),
		strings.ReplaceAll(plainJSON, "/", `\/`), html.EscapeString(key))
	slices.SortFunc(forms, func(a, b string) int { return len(b) - len(a) }) // a form before what is a part of it
	return redactor{forms: slices.Compact(forms), wholeWords: len(key) < 8 || strings.Trim(key, letters) == ""}
}

func (r redactor) redact(text string) string {
	for _, form := range r.forms {
		text = r.replace(text, form)
	}
	return text
}

func (r redactor) replace(text, form string) string {
	var out strings.Builder
	done := 0
	for from := 0; ; {
		i := strings.Index(text[from:], form)
		if i < 0 {
			break
		}
		i += from
		end := i + len(form)
		if r.wholeWords && (endsInWord(text[:i]) && isWordByte(form[0]) || end < len(text) && isWordByte(text[end]) && isWordByte(form[len(form)-1])) {
			from = i + 1
			continue
		}
		out.WriteString(text[done:i])
		out.WriteString("[key]")
		done, from = end, end
	}
	return out.String() + text[done:]
}

// endsInWord tells whether a word continues behind s. It does not behind an escape (\n,
// %20, \u0020), though its last byte may be a letter.
func endsInWord(s string) bool {
	for _, escape := range []struct {
		prefix string
		size   int
	}{{`\`, 2}, {`%`, 3}, {`\u`, 6}} {
		if at := len(s) - escape.size; at >= 0 && strings.HasPrefix(s[at:], escape.prefix) {
			return false
		}
	}
	return s != "" && isWordByte(s[len(s)-1])
}

// isWordByte tells whether a byte is a part of a word, as any letter beyond ASCII is.
func isWordByte(c byte) bool {
	return c == '_' || '0' <= c && c <= '9' || 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || c >= 0x80
}

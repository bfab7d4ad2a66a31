package openai

import (
	"encoding/json"
	"net/http"
	"strconv"
	"strings"
	"time"
)

const maxRetryAfter = time.Hour

// retryAfter returns how long the upstream asks callers to wait, or 0 if it does not
// say. It may say so in a header, in the details of the error, or in its message.
func (u *upstreamError) retryAfter(now time.Time) time.Duration {
	if d := parseRetryAfter(u.header, now); d > 0 {
		return d
	}
	d, err := time.ParseDuration(u.delay)
	if err != nil {
		d = findDelay(u.searchText())
	}
	return max(0, min(d, maxRetryAfter))
}

// parseRetryAfter returns how long a header asks to wait, at most an hour, or 0. Besides
// Retry-After (RFC 9110 section 10.2.3) there is OpenAI's Retry-After-Ms, which is more
// exact.
func parseRetryAfter(h http.Header, now time.Time) time.Duration {
	seconds, err := strconv.ParseFloat(h.Get("Retry-After-Ms"), 64)
	seconds /= 1000
	if err != nil {
		seconds, err = strconv.ParseFloat(h.Get("Retry-After"), 64)
	}
	if err != nil {
		if date, err := http.ParseTime(h.Get("Retry-After")); err == nil {
			seconds = date.Sub(now).Seconds()
		}
	}
	if !(seconds > 0) { // also NaN
		return 0
	}
	return time.Duration(min(seconds, maxRetryAfter.Seconds()) * float64(time.Second))
}

// retryDelay returns the delay of a google.rpc.RetryInfo among the details of a
// google.rpc.Status, which Gemini sends instead of a header (vercel/ai#18627).
func retryDelay(details json.RawMessage) string {
	var list []struct {
		RetryDelay string `json:"retryDelay"`
	}
	_ = json.Unmarshal(details, &list)
	for _, d := range list {
		if d.RetryDelay != "" {
			return d.RetryDelay
		}
	}
	return ""
}

// delayPhrases stand before a time to wait.
var delayPhrases = []string{
	"try again in ", // OpenAI, Groq: 7.66s, 6m0s, 350ms (elizaOS/eliza#4040)
	"retry in ",     // Gemini: 53.016342224s (googleapis/python-genai#1875)
	"retry after ",  // Azure: 3 seconds (openai/openai-python#1010)
	"try again after ",
}

// findDelay returns how long a message in lower case asks to wait, or 0.
func findDelay(message string) time.Duration {
	for _, phrase := range delayPhrases {
		_, rest, found := strings.Cut(message, phrase)
		if !found {
			continue
		}
		end := strings.IndexFunc(rest, func(c rune) bool { return c != '.' && (c < '0' || c > '9') && (c < 'a' || c > 'z') })
		if end < 0 {
			end = len(rest)
		}
		delay := strings.TrimRight(rest[:end], ".")
		if strings.HasPrefix(strings.TrimLeft(rest[end:], " "), "second") {
			delay += "s"
		}
		if d, err := time.ParseDuration(delay); err == nil {
			return d
		}
	}
	return 0
}

package api

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"
)

// bodies holds a valid body for each route that takes one.
var bodies = map[string]string{
	"POST /api/v1/wait":                `{}`,
	"POST /api/v1/peers":               `{"address":"/ip4/192.0.2.1/tcp/1/p2p/X"}`,
	"POST /api/v1/devices/invitations": `{"expires_seconds":60}`,
	"PATCH /api/v1/devices/{name}":     `{"name":"new"}`,
	"POST /api/v1/pause":               `{"folder":"Sync"}`,
	"POST /api/v1/resume":              `{}`,
	"POST /api/v1/conflicts/resolve":   `{"path":"/Sync/a","keep":"mine"}`,
	"POST /api/v1/trash/restore":       `{"ids":["1"]}`,
	"POST /api/v1/trash/empty":         `{"ids":["1"]}`,
	"PUT /api/v1/config/{name}":        `{"value":"true"}`,
	"POST /api/v1/stop":                `{}`,
	"POST /api/v1/relays":              `{"code":"sheaf-relay-abc"}`,
	"POST /api/v1/backups":             `{"dir":"/home/me/Documents"}`,
	"POST /api/v1/restore":             `{"path":"/Backups/laptop/Documents","to":"/tmp/x","at":"2026-11-01T12:00:00Z"}`,
	"POST /api/v1/copy":                `{"from":["/home/me/a"],"to":"/Archive"}`,
	"POST /api/v1/move":                `{"from":["/Archive/a"],"to":"/Archive/b"}`,
}

// queries holds what a route cannot do without.
var queries = map[string]string{
	"GET /api/v1/why": "?path=/Sync/a", "GET /api/v1/history": "?path=/Sync/a",
	"DELETE /api/v1/backups": "?name=Documents", "DELETE /api/v1/content": "?path=/Archive/a",
}

// fill gives a URL for a route's pattern.
func (r route) url() string {
	return strings.NewReplacer("{path...}", "Sync/a%20b", "{name}", "watch", "{id}", "1").Replace(r.path) + queries[r.method+" "+r.path]
}

// every lists every route the TCP door has.
func (s *Server) every() []route {
	return append(slices.Clone(s.routes), route{"GET", "/metrics"}, route{"GET", healthPath})
}

func (r route) request(t *testing.T) *http.Request {
	t.Helper()
	var body io.Reader
	if b, ok := bodies[r.method+" "+r.path]; ok {
		body = strings.NewReader(b)
	}
	req := httptest.NewRequest(r.method, "http://127.0.0.1:8390"+r.url(), body)
	req.Header.Set("Authorization", "Bearer right")
	req.Header.Set("Content-Type", "application/json")
	return req
}

const right = "right"

func rightToken() (string, error) { return right, nil }

// TestDoor walks every route through the TCP door: the user comes in, nobody
// else reaches the node.
func TestDoor(t *testing.T) {
	t.Parallel()
	intruders := map[string]struct {
		change func(*http.Request)
		status int
		code   string
	}{
		"no token":       {func(r *http.Request) { r.Header.Del("Authorization") }, 401, "unauthorized"},
		"wrong token":    {func(r *http.Request) { r.Header.Set("Authorization", "Bearer wrong") }, 401, "unauthorized"},
		"empty token":    {func(r *http.Request) { r.Header.Set("Authorization", "Bearer ") }, 401, "unauthorized"},
		"basic":          {func(r *http.Request) { r.Header.Set("Authorization", "Basic "+right) }, 401, "unauthorized"},
		"token in query": {func(r *http.Request) { r.Header.Del("Authorization"); r.URL.RawQuery = "token=" + right }, 401, "unauthorized"},
		"rebound host":   {func(r *http.Request) { r.Host = "evil.example:8390" }, 403, "foreign-host"},
		"prefix host":    {func(r *http.Request) { r.Host = "localhost.evil.example" }, 403, "foreign-host"},
		"dotted host":    {func(r *http.Request) { r.Host = "127.0.0.1.evil.example" }, 403, "foreign-host"},
		"lan host":       {func(r *http.Request) { r.Host = "192.0.2.7:8390" }, 403, "foreign-host"},
		"no host":        {func(r *http.Request) { r.Host = "" }, 403, "foreign-host"},
		"foreign origin": {func(r *http.Request) { r.Header.Set("Origin", "https://evil.example") }, 403, "foreign-origin"},
		"null origin":    {func(r *http.Request) { r.Header.Set("Origin", "null") }, 403, "foreign-origin"},
		"other port":     {func(r *http.Request) { r.Header.Set("Origin", "http://127.0.0.1:3000") }, 403, "foreign-origin"},
		"two origins":    {func(r *http.Request) { r.Header["Origin"] = []string{"http://127.0.0.1:8390", "http://evil.example"} }, 403, "foreign-origin"},
		"https origin":   {func(r *http.Request) { r.Header.Set("Origin", "https://127.0.0.1:8390") }, 403, "foreign-origin"},
		"cross-site":     {func(r *http.Request) { r.Header.Set("Sec-Fetch-Site", "cross-site") }, 403, "foreign-origin"},
		"same-site":      {func(r *http.Request) { r.Header.Set("Sec-Fetch-Site", "same-site") }, 403, "foreign-origin"},
	}
	f := newFake()
	s := NewServer(f, Options{Token: rightToken})
	for _, r := range s.every() {
		for name, in := range intruders {
			if r.path == healthPath && in.status == 401 {
				continue // says ok to whoever may ask at all
			}
			req := r.request(t)
			in.change(req)
			w := httptest.NewRecorder()
			s.TCP().ServeHTTP(w, req)
			var p problemDetails
			if err := json.Unmarshal(w.Body.Bytes(), &p); err != nil || w.Code != in.status || p.Code != in.code || p.Remedy == "" ||
				w.Header().Get("Content-Type") != problemType {
				t.Errorf("%s %s, %s: answered %d %s", r.method, r.path, name, w.Code, w.Body)
			}
			if in.status == 401 && w.Header().Get("WWW-Authenticate") == "" {
				t.Errorf("%s %s, %s: no WWW-Authenticate", r.method, r.path, name)
			}
			if w.Header().Get("Access-Control-Allow-Origin") != "" {
				t.Errorf("%s %s, %s: another origin is allowed in", r.method, r.path, name)
			}
		}
	}
	if calls := f.made(); len(calls) > 0 {
		t.Fatalf("refused requests reached the node: %q", calls)
	}

	for _, change := range []func(*http.Request){
		func(*http.Request) {},
		func(r *http.Request) { r.Host = "localhost:8390" },
		func(r *http.Request) { r.Host = "[::1]:8390" },
		func(r *http.Request) {
			r.Header.Set("Origin", "http://127.0.0.1:8390")
			r.Header.Set("Sec-Fetch-Site", "same-origin")
		},
	} {
		for _, r := range s.every() {
			req := r.request(t)
			change(req)
			w := httptest.NewRecorder()
			s.TCP().ServeHTTP(w, req)
			if w.Code/100 != 2 {
				t.Errorf("%s %s for the user: %d %s", r.method, r.path, w.Code, w.Body)
			}
			for header, want := range map[string]string{
				"Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'", "X-Content-Type-Options": "nosniff",
				"Cache-Control": "no-store", "Referrer-Policy": "no-referrer",
			} {
				if got := w.Header().Get(header); got != want {
					t.Errorf("%s %s: %s is %q", r.method, r.path, header, got)
				}
			}
		}
	}
}

// TestGetChangesNothing: by GET only what asks is called.
func TestGetChangesNothing(t *testing.T) {
	t.Parallel()
	harmless := []string{"Status", "Addresses", "Devices", "List", "Conflicts", "Trash", "Why", "Holds", "Log", "Doctor", "Config", "Events", "Relays", "Backups", "History"}
	f := newFake()
	s := NewServer(f, Options{Token: rightToken})
	for _, r := range s.every() {
		for _, method := range []string{http.MethodGet, http.MethodHead} {
			asGet := r
			asGet.method = method
			for _, h := range []http.Handler{s.TCP(), s.Socket()} {
				h.ServeHTTP(httptest.NewRecorder(), asGet.request(t))
			}
		}
	}
	if len(f.made()) == 0 {
		t.Fatal("nothing was called at all")
	}
	for _, call := range f.made() {
		name, _, _ := strings.Cut(call, "[")
		if !slices.Contains(harmless, name) {
			t.Errorf("GET called %s", call)
		}
	}
}

// TestNoTokenNoEntry: without a token file TCP lets nobody in.
func TestNoTokenNoEntry(t *testing.T) {
	t.Parallel()
	s := NewServer(newFake(), Options{})
	req := route{"GET", "/api/v1/status"}.request(t)
	req.Header.Set("Authorization", "Bearer ")
	w := httptest.NewRecorder()
	s.TCP().ServeHTTP(w, req)
	if w.Code != http.StatusUnauthorized {
		t.Errorf("answered %d", w.Code)
	}
}

// TestProfilesOnlyOnTheSocket: profiles tell about memory.
func TestProfilesOnlyOnTheSocket(t *testing.T) {
	t.Parallel()
	s := NewServer(newFake(), Options{Token: rightToken})
	for h, want := range map[*http.Handler]int{&s.tcp: 404, &s.socket: 200} {
		w := httptest.NewRecorder()
		(*h).ServeHTTP(w, route{"GET", "/debug/pprof/cmdline"}.request(t))
		if w.Code != want {
			t.Errorf("answered %d, want %d", w.Code, want)
		}
	}
}

// TestBadRequests: what has no right form is refused before the node sees it.
func TestBadRequests(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct{ method, url, body string }{
		"no JSON":           {"POST", "/api/v1/pause", `folder=Sync`},
		"no body":           {"POST", "/api/v1/peers", ``},
		"unknown member":    {"POST", "/api/v1/pause", `{"foldr":"Sync"}`},
		"wrong type":        {"POST", "/api/v1/pause", `{"folder":7}`},
		"out of range":      {"GET", "/api/v1/log?limit=0", ``},
		"no number":         {"GET", "/api/v1/log?limit=many", ``},
		"unknown query":     {"GET", "/api/v1/log?lmit=3", ``},
		"no path":           {"GET", "/api/v1/why", ``},
		"unknown keep":      {"POST", "/api/v1/conflicts/resolve", `{"path":"/Sync/a","keep":"yours"}`},
		"nothing to empty":  {"POST", "/api/v1/trash/empty", `{}`},
		"all and some":      {"POST", "/api/v1/trash/empty", `{"all":true,"ids":["1"]}`},
		"too large":         {"POST", "/api/v1/trash/restore", `{"ids":["` + strings.Repeat("x", maxBody) + `"]}`},
		"too many":          {"POST", "/api/v1/trash/restore", `{"ids":[` + strings.Repeat(`"x",`, 10000) + `"x"]}`},
		"no event ID":       {"GET", "/api/v1/events?after=-1", ``},
		"path not UTF-8":    {"GET", "/api/v1/tree/Sync/%ff", ``},
		"path with a zero":  {"GET", "/api/v1/tree/Sync/%00", ``},
		"why with a zero":   {"GET", "/api/v1/why?path=%2FSync%2F%00", ``},
		"why relative":      {"GET", "/api/v1/why?path=Sync/a", ``},
		"path climbing out": {"GET", "/api/v1/why?path=/Sync/../../etc/passwd", ``},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newFake()
			w := httptest.NewRecorder()
			req := httptest.NewRequest(c.method, "http://localhost"+c.url, strings.NewReader(c.body))
			req.Header.Set("Content-Type", "application/json")
			NewServer(f, Options{}).Socket().ServeHTTP(w, req)
			var p problemDetails
			if err := json.Unmarshal(w.Body.Bytes(), &p); err != nil || w.Code/100 != 4 || p.Status != w.Code || p.Detail == "" ||
				p.Code != "usage" || p.Remedy == "" || w.Header().Get("Content-Type") != problemType {
				t.Errorf("answered %d %s", w.Code, w.Body)
			}
			if calls := f.made(); len(calls) > 0 {
				t.Errorf("it reached the node: %q", calls)
			}
			if len(w.Body.Bytes()) > 4096 {
				t.Errorf("the answer has %d bytes", w.Body.Len())
			}
		})
	}
}

func TestNoSuchRoute(t *testing.T) {
	t.Parallel()
	w := httptest.NewRecorder()
	NewServer(newFake(), Options{}).Socket().ServeHTTP(w, httptest.NewRequest("GET", "http://localhost/api/v2/nothing", nil))
	if w.Code != 404 || !strings.Contains(w.Body.String(), "no-such-route") {
		t.Errorf("answered %d %s", w.Code, w.Body)
	}
}

// TestOverTCP: the whole way, with the token file of a home and its change.
func TestOverTCP(t *testing.T) {
	t.Parallel()
	tokens := t.TempDir()
	token, err := Token(tokens)
	if err != nil {
		t.Fatal(err)
	}
	_, l := serve(t, newFake(), Options{Token: func() (string, error) { return Token(tokens) }}, "127.0.0.1:0")
	hc := &http.Client{Timeout: 5 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	ask := func(token string) int {
		req, err := http.NewRequestWithContext(t.Context(), "GET", "http://"+l.TCPAddr()+"/api/v1/status", nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Authorization", "Bearer "+token)
		resp, err := hc.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		_ = resp.Body.Close()
		return resp.StatusCode
	}
	if got := ask(token); got != 200 {
		t.Errorf("with the token: %d", got)
	}
	if _, err := NewToken(tokens); err != nil {
		t.Fatal(err)
	}
	if got := ask(token); got != 401 {
		t.Errorf("with the old token: %d", got)
	}
}

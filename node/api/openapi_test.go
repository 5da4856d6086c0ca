package api

import (
	"encoding/json"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
)

// document reads the served document as a program of somebody else would.
func document(t *testing.T, s *Server) map[string]any {
	t.Helper()
	w := httptest.NewRecorder()
	s.Socket().ServeHTTP(w, httptest.NewRequest("GET", "http://localhost/api/v1/openapi.json", nil))
	var doc map[string]any
	if err := json.Unmarshal(w.Body.Bytes(), &doc); err != nil {
		t.Fatal(err)
	}
	return doc
}

// TestHandlersHoldToTheDocument: every route is in the document and nothing
// else, and what every route answers, good or bad, is what the document says.
func TestHandlersHoldToTheDocument(t *testing.T) {
	t.Parallel()
	full, empty, failing := newFake(), newFake(), newFake()
	empty.status = Status{State: Idle} // nil lists everywhere
	failing.err = Errorf(ErrRefused, "ask", "no")
	s := NewServer(full, Options{Version: "1.2.3"})
	doc := document(t, s)
	if v, _ := doc["openapi"].(string); !strings.HasPrefix(v, "3.1") {
		t.Errorf("the document is OpenAPI %q", v)
	}
	schemas := dig(doc, "components", "schemas").(map[string]any)
	described := 0
	for path, item := range doc["paths"].(map[string]any) {
		for method, op := range item.(map[string]any) {
			described++
			at := strings.ToUpper(method) + " " + path
			if !slices.ContainsFunc(s.routes, func(r route) bool {
				return r.method+" "+strings.ReplaceAll(r.path, "{path...}", "{path}") == at
			}) {
				t.Errorf("%s is described, but there is no such route", at)
			}
			if strings.Contains(path, "...") {
				t.Errorf("%s is no path of OpenAPI", path)
			}
			for _, part := range strings.Split(path, "/") {
				if name, ok := strings.CutPrefix(part, "{"); ok && !describesParam(op, strings.TrimSuffix(name, "}")) {
					t.Errorf("%s does not describe its parameter %s", at, part)
				}
			}
		}
	}
	if described != len(s.routes)-1 { // the document itself
		t.Errorf("%d routes are described, there are %d", described, len(s.routes)-1)
	}
	for _, n := range []*fakeNode{full, empty, failing} {
		s := NewServer(n, Options{})
		for _, r := range s.routes {
			if strings.HasSuffix(r.path, "openapi.json") {
				continue
			}
			w := httptest.NewRecorder()
			s.Socket().ServeHTTP(w, r.request(t))
			if failed := w.Code >= 400; failed != (n == failing) {
				t.Errorf("%s %s answered %d %s", r.method, r.path, w.Code, w.Body)
			}
			responses := dig(doc, "paths", strings.ReplaceAll(r.path, "{path...}", "{path}"), strings.ToLower(r.method), "responses").(map[string]any)
			code := map[int]string{200: "200", 204: "204"}[w.Code]
			if code == "" {
				code = "default"
			}
			resp, ok := responses[code].(map[string]any)
			if !ok {
				t.Errorf("%s %s: status %d is not described", r.method, r.path, w.Code)
				continue
			}
			content, _ := resp["content"].(map[string]any)
			if content == nil {
				if w.Body.Len() > 0 {
					t.Errorf("%s %s: answered %s, described is nothing", r.method, r.path, w.Body)
				}
				continue
			}
			ct := w.Header().Get("Content-Type")
			media, ok := content[ct].(map[string]any)
			if !ok {
				t.Errorf("%s %s: answered in %q, described is %v", r.method, r.path, ct, content)
				continue
			}
			if ct == "text/event-stream" {
				continue
			}
			var v any
			if err := json.Unmarshal(w.Body.Bytes(), &v); err != nil {
				t.Fatal(err)
			}
			for _, wrong := range mismatches(schemas, media["schema"].(map[string]any), v, "$") {
				t.Errorf("%s %s: %s", r.method, r.path, wrong)
			}
		}
	}
}

func describesParam(op any, name string) bool {
	params, _ := op.(map[string]any)["parameters"].([]any)
	return slices.ContainsFunc(params, func(p any) bool {
		m := p.(map[string]any)
		return m["name"] == name && m["in"] == "path" && m["required"] == true
	})
}

func dig(v any, keys ...string) any {
	for _, k := range keys {
		m, ok := v.(map[string]any)
		if !ok {
			return nil
		}
		v = m[k]
	}
	return v
}

// mismatches holds a value against a JSON schema, as far as our document uses
// them, and strictly: a member that is not described is one too many. It is
// written apart from the library that makes the document.
func mismatches(schemas, schema map[string]any, v any, at string) []string {
	if ref, ok := schema["$ref"].(string); ok {
		return mismatches(schemas, schemas[strings.TrimPrefix(ref, "#/components/schemas/")].(map[string]any), v, at)
	}
	if anyOf, ok := schema["anyOf"].([]any); ok {
		for _, s := range anyOf {
			if len(mismatches(schemas, s.(map[string]any), v, at)) == 0 {
				return nil
			}
		}
		return []string{at + " is none of what it may be"}
	}
	if enum, ok := schema["enum"].([]any); ok && !slices.Contains(enum, v) {
		return []string{at + " is not in its enum"}
	}
	var wrong []string
	switch schema["type"] {
	case "object":
		m, ok := v.(map[string]any)
		if !ok {
			return []string{at + " is no object"}
		}
		props, _ := schema["properties"].(map[string]any)
		required, _ := schema["required"].([]any)
		for _, r := range required {
			if _, ok := m[r.(string)]; !ok {
				wrong = append(wrong, at+" lacks "+r.(string))
			}
		}
		for k, x := range m {
			p, ok := props[k].(map[string]any)
			if !ok {
				wrong = append(wrong, at+"."+k+" is not described")
				continue
			}
			wrong = append(wrong, mismatches(schemas, p, x, at+"."+k)...)
		}
	case "array":
		list, ok := v.([]any)
		if !ok {
			return []string{at + " is no list"}
		}
		for _, x := range list {
			wrong = append(wrong, mismatches(schemas, schema["items"].(map[string]any), x, at+"[]")...)
		}
	case "string":
		if _, ok := v.(string); !ok {
			wrong = append(wrong, at+" is no string")
		}
	case "boolean":
		if _, ok := v.(bool); !ok {
			wrong = append(wrong, at+" is no boolean")
		}
	case "integer", "number":
		n, ok := v.(float64)
		if !ok || schema["type"] == "integer" && n != float64(int64(n)) {
			wrong = append(wrong, at+" is no "+schema["type"].(string))
		}
	default:
		wrong = append(wrong, at+" has a schema this test cannot read")
	}
	return wrong
}

// TestStatusIsTheContract: `sheaf status --json` has these members, and lists
// are lists even when empty.
func TestStatusIsTheContract(t *testing.T) {
	t.Parallel()
	for name, n := range map[string]*fakeNode{"full": newFake(), "empty": {status: Status{State: Idle, Folders: []Folder{{State: Idle}}, Peers: []Peer{{}}}}} {
		w := httptest.NewRecorder()
		NewServer(n, Options{}).Socket().ServeHTTP(w, httptest.NewRequest("GET", "http://localhost/api/v1/status", nil))
		var st map[string]any
		if err := json.Unmarshal(w.Body.Bytes(), &st); err != nil {
			t.Fatal(err)
		}
		has := func(v any, members ...string) {
			m, ok := v.(map[string]any)
			for _, k := range members {
				if x, there := m[k]; !ok || !there || x == nil {
					t.Errorf("%s: %v lacks %s", name, v, k)
				}
			}
		}
		has(st, "device", "state", "folders", "peers", "relays", "traffic")
		has(st["device"], "name", "id", "version")
		has(st["traffic"], "sent_bytes", "received_bytes")
		for _, f := range st["folders"].([]any) {
			has(f, "name", "path", "kind", "state", "files", "directories", "bytes", "need_files", "need_bytes", "conflicts", "problems")
		}
		for _, p := range st["peers"].([]any) {
			has(p, "name", "id", "connected", "path", "rtt_ms", "in_step")
		}
		if _, ok := st["relays"].([]any); !ok {
			t.Errorf("%s: relays is no list", name)
		}
	}
}

func TestNoNullsLeavesTheNodesOwn(t *testing.T) {
	t.Parallel()
	kept := Status{Folders: []Folder{{}}}
	out, err := noNulls(nil, "", kept)
	if err != nil {
		t.Fatal(err)
	}
	if got := out.(Status); got.Folders[0].Problems == nil || got.Peers == nil {
		t.Error("a nil list is left")
	}
	if kept.Folders[0].Problems != nil {
		t.Error("what the node keeps was changed")
	}
}

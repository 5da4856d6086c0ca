package api

import (
	"context"
	"encoding/json"
	"net/http"
	"reflect"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"

	"sheaf/node/config"
)

// maxWait bounds one wait request. A client that wants longer asks again.
const maxWait = 24 * time.Hour

// defaultInvite is how long an invitation holds if nobody says otherwise.
const defaultInvite = 7 * 24 * time.Hour

type (
	none  struct{}
	named struct {
		Name string `path:"name" maxLength:"255"`
	}
	identified struct {
		ID string `path:"id" maxLength:"255"`
	}
	body[T any] struct {
		Body T
	}
	pathQuery struct {
		Path string `query:"path" required:"true" maxLength:"32768" doc:"A path in the tree, such as /Sync/notes.txt"`
	}
)

type (
	waitRequest struct {
		Relay   bool  `json:"relay,omitempty" doc:"Also until each relay has durably stored everything"`
		Timeout int64 `json:"timeout_ms,omitempty" minimum:"0" doc:"Milliseconds; 0 and more than a day are a day"`
	}
	peerRequest struct {
		Address string `json:"address" minLength:"1" maxLength:"4096" doc:"A multiaddr that ends in /p2p/ID"`
	}
	inviteRequest struct {
		Expires int64 `json:"expires_seconds,omitempty" minimum:"0" maximum:"315360000" doc:"0 is seven days"`
	}
	renameRequest struct {
		Name string `json:"name" minLength:"1" maxLength:"255" doc:"The new name"`
	}
	folderRequest struct {
		Folder string `json:"folder,omitempty" maxLength:"255" doc:"Its name; absent for all folders"`
	}
	resolveRequest struct {
		Path string `json:"path" minLength:"1" maxLength:"32768" doc:"The file or the conflict copy"`
		Keep Keep   `json:"keep" enum:"mine,theirs,both"`
	}
	restoreRequest struct {
		IDs []string `json:"ids" minItems:"1" maxItems:"10000" doc:"IDs, or the paths things had"`
		To  string   `json:"to,omitempty" maxLength:"32768" doc:"A directory in the tree; absent: where they were"`
	}
	restoreAnswer struct {
		Paths []string `json:"paths" doc:"Where each thing is now, in the order asked"`
	}
	emptyRequest struct {
		IDs []string `json:"ids,omitempty" maxItems:"10000" doc:"Absent: everything in the trash"`
		All bool     `json:"all,omitempty" doc:"Must be true when no IDs are given"`
	}
	emptyAnswer struct {
		Items int   `json:"items"`
		Bytes int64 `json:"bytes"`
	}
	codeRequest struct {
		Code string `json:"code" minLength:"1" maxLength:"8192" doc:"From sheaf-relay invite"`
	}
	backupRequest struct {
		Dir  string `json:"dir" minLength:"1" maxLength:"32768" doc:"A directory of this device, in full"`
		Name string `json:"name,omitempty" maxLength:"255" doc:"Absent: the directory's own"`
	}
	keptRequest struct {
		Path    string    `json:"path" minLength:"1" maxLength:"32768" doc:"In the tree"`
		To      string    `json:"to,omitempty" maxLength:"32768" doc:"On this disk; absent: where it was"`
		Version string    `json:"version,omitempty" maxLength:"64"`
		At      time.Time `json:"at,omitzero" doc:"As it was then"`
	}
	copyRequest struct {
		From []string `json:"from" minItems:"1" maxItems:"10000" doc:"Paths of the tree; or, to copy, of this disk in full"`
		To   string   `json:"to" minLength:"1" maxLength:"32768" doc:"A directory of the archive"`
	}
	settingRequest struct {
		Value string `json:"value" maxLength:"4096" doc:"In the form of the configuration file, without quotes"`
	}
	stopRequest struct {
		Restart bool `json:"restart,omitempty"`
	}
)

// treeQuery is what can be asked of a directory. The path is the rest of the
// URL, which huma cannot bind by itself.
type treeQuery struct {
	Recursive bool   `query:"recursive" doc:"Also what is below its directories"`
	After     string `query:"after" maxLength:"65536" doc:"The cursor a page gave as next"`
	Limit     int    `query:"limit" minimum:"0" maximum:"10000" doc:"Entries at most; 0: as many as the node gives"`
	path      string
}

// Resolve takes the path from the URL.
func (q *treeQuery) Resolve(ctx huma.Context) []error {
	q.path = "/" + ctx.Param("path")
	return nil
}

// A route is one method and path, kept for the test that walks them all.
type route struct{ method, path string }

// register puts every route on mux and makes the OpenAPI document.
func (s *Server) register(mux *http.ServeMux, version string) {
	c := huma.Config{
		OpenAPI: &huma.OpenAPI{
			Info: &huma.Info{
				Title: "Sheaf, the local API", Version: version,
				Description: "What a node of Sheaf answers to the programs of the user it belongs to. " +
					"On the socket sheaf.sock in the node's home nothing more is needed; on TCP a bearer token is.",
			},
			Components: &huma.Components{
				Schemas: huma.NewMapRegistry("#/components/schemas/", huma.DefaultSchemaNamer),
				SecuritySchemes: map[string]*huma.SecurityScheme{
					"token": {Type: "http", Scheme: "bearer", Description: "What `sheaf config token` prints"},
				},
			},
			Security: []map[string][]string{{"token": {}}},
		},
		Formats:                      map[string]huma.Format{"application/json": huma.DefaultJSONFormat, "json": huma.DefaultJSONFormat},
		DefaultFormat:                "application/json",
		RejectUnknownQueryParameters: true,
		Transformers:                 []huma.Transformer{ourProblems, noNulls},
	}
	api := humago.New(mux, c)

	answer(s, api, http.MethodGet, "/status", "status", "The node, its folders and its peers",
		func(ctx context.Context, _ *none) (Status, error) { return s.node.Status(ctx) })
	answer(s, api, http.MethodGet, "/folders", "folders", "The folders on this device",
		func(ctx context.Context, _ *none) ([]Folder, error) {
			st, err := s.node.Status(ctx)
			return st.Folders, err
		})
	do(s, api, http.MethodPost, "/wait", "wait", "Return when all is in step",
		func(ctx context.Context, r *body[waitRequest]) error {
			d := time.Duration(min(r.Body.Timeout, maxWait.Milliseconds())) * time.Millisecond
			if d == 0 {
				d = maxWait
			}
			ctx, cancel := context.WithTimeout(ctx, d)
			defer cancel()
			return s.node.Wait(ctx, WaitOptions{Relay: r.Body.Relay})
		})
	answer(s, api, http.MethodGet, "/addresses", "addresses", "The node's own multiaddrs",
		func(ctx context.Context, _ *none) ([]string, error) { return s.node.Addresses(ctx) })
	answer(s, api, http.MethodGet, "/peers", "peers", "The devices this one syncs with",
		func(ctx context.Context, _ *none) ([]Peer, error) {
			st, err := s.node.Status(ctx)
			return st.Peers, err
		})
	answer(s, api, http.MethodPost, "/peers", "connect", "Dial a peer now, and remember its address",
		func(ctx context.Context, r *body[peerRequest]) (Peer, error) {
			return s.node.Connect(ctx, r.Body.Address)
		})
	answer(s, api, http.MethodGet, "/relays", "relays", "The relays in use",
		func(ctx context.Context, _ *none) ([]Relay, error) {
			return s.node.Relays(ctx)
		})

	answer(s, api, http.MethodGet, "/devices", "devices", "The devices of the account",
		func(ctx context.Context, _ *none) ([]Device, error) { return s.node.Devices(ctx) })
	answer(s, api, http.MethodPost, "/devices/invitations", "invite-device", "Make a code for one more device",
		func(ctx context.Context, r *body[inviteRequest]) (Invitation, error) {
			d := time.Duration(r.Body.Expires) * time.Second
			if d == 0 {
				d = defaultInvite
			}
			return s.node.InviteDevice(ctx, d)
		})
	do(s, api, http.MethodPatch, "/devices/{name}", "rename-device", "Give a device another name",
		func(ctx context.Context, r *struct {
			Name string `path:"name" maxLength:"255"`
			Body renameRequest
		}) error {
			return s.node.RenameDevice(ctx, r.Name, r.Body.Name)
		})
	do(s, api, http.MethodDelete, "/devices/{name}", "remove-device", "Remove a device from the account",
		func(ctx context.Context, r *named) error { return s.node.RemoveDevice(ctx, r.Name) })

	do(s, api, http.MethodPost, "/pause", "pause", "Send, fetch and apply nothing meanwhile",
		func(ctx context.Context, r *body[folderRequest]) error { return s.node.Pause(ctx, r.Body.Folder) })
	do(s, api, http.MethodPost, "/resume", "resume", "End a pause",
		func(ctx context.Context, r *body[folderRequest]) error { return s.node.Resume(ctx, r.Body.Folder) })

	answer(s, api, http.MethodGet, "/tree/{path...}", "list", "A directory of the tree, page by page",
		func(ctx context.Context, r *treeQuery) (Listing, error) {
			p, err := judgePath(r.path)
			if err != nil {
				return Listing{}, err
			}
			return s.node.List(ctx, p, r.Recursive, Page{After: r.After, Limit: r.Limit})
		})
	answer(s, api, http.MethodGet, "/why", "why", "All this device knows about a path",
		func(ctx context.Context, r *pathQuery) (Why, error) {
			p, err := judgePath(r.Path)
			if err != nil {
				return Why{}, err
			}
			return s.node.Why(ctx, p)
		})
	answer(s, api, http.MethodGet, "/log", "log", "Change-sets, newest first",
		func(ctx context.Context, r *struct {
			Path  string `query:"path" maxLength:"32768" doc:"At and below this path; absent: everywhere"`
			Limit int    `query:"limit" minimum:"1" maximum:"10000" default:"50"`
		}) ([]ChangeSet, error) {
			if r.Path == "" {
				return s.node.Log(ctx, "", r.Limit)
			}
			p, err := judgePath(r.Path)
			if err != nil {
				return nil, err
			}
			return s.node.Log(ctx, p, r.Limit)
		})

	answer(s, api, http.MethodGet, "/conflicts", "conflicts", "Conflict copies there are",
		func(ctx context.Context, _ *none) ([]Conflict, error) { return s.node.Conflicts(ctx) })
	do(s, api, http.MethodPost, "/conflicts/resolve", "resolve-conflict", "Say which side stays",
		func(ctx context.Context, r *body[resolveRequest]) error {
			p, err := judgePath(r.Body.Path)
			if err != nil {
				return err
			}
			return s.node.ResolveConflict(ctx, p, r.Body.Keep)
		})
	answer(s, api, http.MethodGet, "/trash", "trash", "What can be restored",
		func(ctx context.Context, _ *none) ([]TrashItem, error) { return s.node.Trash(ctx) })
	answer(s, api, http.MethodPost, "/trash/restore", "restore-trash", "Bring things back",
		func(ctx context.Context, r *body[restoreRequest]) (restoreAnswer, error) {
			to := r.Body.To
			if to != "" {
				var err error
				if to, err = judgePath(to); err != nil {
					return restoreAnswer{}, err
				}
			}
			paths, err := s.node.RestoreTrash(ctx, r.Body.IDs, to)
			return restoreAnswer{paths}, err
		})
	answer(s, api, http.MethodPost, "/trash/empty", "empty-trash", "Delete things in the trash for good",
		func(ctx context.Context, r *body[emptyRequest]) (emptyAnswer, error) {
			if r.Body.All == (len(r.Body.IDs) > 0) {
				return emptyAnswer{}, Errorf(ErrUsage, "give ids, or all: true", "it must be said what to delete for good")
			}
			n, bytes, err := s.node.EmptyTrash(ctx, r.Body.IDs)
			return emptyAnswer{n, bytes}, err
		})
	answer(s, api, http.MethodPost, "/relays", "add-relay", "Have all devices use one more relay",
		func(ctx context.Context, r *body[codeRequest]) (Relay, error) {
			return s.node.AddRelay(ctx, r.Body.Code)
		})
	do(s, api, http.MethodDelete, "/relays/{name}", "remove-relay", "Use a relay no more",
		func(ctx context.Context, r *named) error { return s.node.RemoveRelay(ctx, r.Name) })
	answer(s, api, http.MethodGet, "/backups", "backups", "The backups of all devices",
		func(ctx context.Context, _ *none) ([]Backup, error) { return s.node.Backups(ctx) })
	answer(s, api, http.MethodPost, "/backups", "add-backup", "Back up a directory of this device",
		func(ctx context.Context, r *body[backupRequest]) (Backup, error) {
			return s.node.AddBackup(ctx, r.Body.Dir, r.Body.Name)
		})
	do(s, api, http.MethodDelete, "/backups", "remove-backup", "End a backup",
		func(ctx context.Context, r *struct {
			Name string `query:"name" required:"true" maxLength:"32768" doc:"Its name on this device, or its path in the tree"`
			Keep bool   `query:"keep" doc:"Keep what is stored"`
		}) error {
			return s.node.RemoveBackup(ctx, r.Name, r.Keep)
		})
	answer(s, api, http.MethodGet, "/history", "history", "The versions of a file",
		func(ctx context.Context, r *pathQuery) ([]Version, error) {
			p, err := judgePath(r.Path)
			if err != nil {
				return nil, err
			}
			return s.node.History(ctx, p)
		})
	answer(s, api, http.MethodPost, "/restore", "restore", "Bring back to this disk what relays keep",
		func(ctx context.Context, r *body[keptRequest]) (Restored, error) {
			p, err := judgePath(r.Body.Path)
			if err != nil {
				return Restored{}, err
			}
			return s.node.Restore(ctx, RestoreOptions{Path: p, To: r.Body.To, Version: r.Body.Version, At: r.Body.At})
		})
	for _, c := range []struct {
		path, id, what string
		move           bool
	}{{"/copy", "copy", "Put things into the archive", false}, {"/move", "move", "Move things of the archive", true}} {
		answer(s, api, http.MethodPost, c.path, c.id, c.what,
			func(ctx context.Context, r *body[copyRequest]) (Copied, error) {
				to, err := judgePath(r.Body.To)
				if err != nil {
					return Copied{}, err
				}
				return s.node.Copy(ctx, r.Body.From, to, c.move)
			})
	}
	do(s, api, http.MethodDelete, "/content", "remove", "Delete something of the archive",
		func(ctx context.Context, r *struct {
			Path      string `query:"path" required:"true" maxLength:"32768" doc:"In the tree"`
			Recursive bool   `query:"recursive" doc:"A directory with all that is in it"`
		}) error {
			p, err := judgePath(r.Path)
			if err != nil {
				return err
			}
			return s.node.Remove(ctx, p, r.Recursive)
		})
	answer(s, api, http.MethodGet, "/holds", "holds", "Mass changes that wait for a word",
		func(ctx context.Context, _ *none) ([]Hold, error) { return s.node.Holds(ctx) })
	do(s, api, http.MethodPost, "/holds/{id}/release", "release-hold", "Let a mass change happen",
		func(ctx context.Context, r *identified) error { return s.node.ReleaseHold(ctx, r.ID) })
	do(s, api, http.MethodPost, "/holds/{id}/revert", "revert-hold", "Undo a mass change",
		func(ctx context.Context, r *identified) error { return s.node.RevertHold(ctx, r.ID) })

	answer(s, api, http.MethodGet, "/doctor", "doctor", "Check the node",
		func(ctx context.Context, r *struct {
			Deep bool `query:"deep" doc:"Also read everything on disk: takes long"`
		}) ([]Check, error) {
			return s.node.Doctor(ctx, r.Deep)
		})
	answer(s, api, http.MethodGet, "/config", "config", "Every key with value, default and meaning",
		func(ctx context.Context, _ *none) ([]config.Value, error) { return s.node.Config(ctx) })
	do(s, api, http.MethodPut, "/config/{name}", "set-config", "Set a key",
		func(ctx context.Context, r *struct {
			Name string `path:"name" maxLength:"255"`
			Body settingRequest
		}) error {
			s.setting.Lock() // one file, edited by two at once, would lose a change
			defer s.setting.Unlock()
			return s.node.SetConfig(ctx, r.Name, r.Body.Value)
		})
	do(s, api, http.MethodPost, "/stop", "stop", "Stop the node, or start it again",
		func(ctx context.Context, r *body[stopRequest]) error { return s.node.Stop(ctx, r.Body.Restart) })
	s.registerEvents(api)

	s.document = describe(api)
	mux.HandleFunc("GET "+prefix+"/openapi.json", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/openapi+json")
		_, _ = w.Write(s.document)
	})
	s.routes = append(s.routes, route{http.MethodGet, prefix + "/openapi.json"})
}

// operation starts the description of a route.
func (s *Server) operation(api huma.API, method, path, id, summary string) huma.Operation {
	s.routes = append(s.routes, route{method, prefix + path})
	problem := api.OpenAPI().Components.Schemas.Schema(reflect.TypeFor[problemDetails](), true, "Problem")
	return huma.Operation{
		Method: method, Path: prefix + path, OperationID: id, Summary: summary,
		MaxBodyBytes: maxBody,
		Responses: map[string]*huma.Response{"default": {
			Description: "What happened, and what to do",
			Content:     map[string]*huma.MediaType{problemType: {Schema: problem}},
		}},
	}
}

// answer registers a route that answers with a body.
func answer[I, O any](s *Server, api huma.API, method, path, id, summary string, f func(context.Context, *I) (O, error)) {
	huma.Register(api, s.operation(api, method, path, id, summary), func(ctx context.Context, in *I) (*body[O], error) {
		out, err := f(ctx, in)
		if err != nil {
			return nil, s.problem(ctx, id, err)
		}
		return &body[O]{out}, nil
	})
}

// do registers a route that answers 204 when it is done.
func do[I any](s *Server, api huma.API, method, path, id, summary string, f func(context.Context, *I) error) {
	huma.Register(api, s.operation(api, method, path, id, summary), func(ctx context.Context, in *I) (*none, error) {
		if err := f(ctx, in); err != nil {
			return nil, s.problem(ctx, id, err)
		}
		return nil, nil
	})
}

func (s *Server) problem(ctx context.Context, id string, err error) error {
	p, unexpected := problemOf(ctx, err)
	if unexpected {
		s.log.Error("request failed", "operation", id, "err", err)
	}
	return p
}

// describe writes the OpenAPI document once all routes are there.
func describe(api huma.API) []byte {
	doc := api.OpenAPI()
	const rest = "/tree/{path...}" // net/http's way to say it; OpenAPI has none
	if item, ok := doc.Paths[prefix+rest]; ok {
		delete(doc.Paths, prefix+rest)
		item.Get.Parameters = append(item.Get.Parameters, &huma.Param{
			Name: "path", In: "path", Required: true, Schema: &huma.Schema{Type: huma.TypeString},
			Description: "The path without its first slash; slashes stand as they are, all else is percent-encoded",
		})
		doc.Paths[prefix+"/tree/{path}"] = item
	}
	for _, schema := range doc.Components.Schemas.Map() {
		neverNull(schema)
	}
	for _, item := range doc.Paths {
		for _, op := range []*huma.Operation{item.Get, item.Post} {
			if op == nil || op.Responses["200"] == nil {
				continue
			}
			for _, media := range op.Responses["200"].Content {
				neverNull(media.Schema)
			}
		}
	}
	out, err := json.Marshal(doc)
	if err != nil {
		panic("the OpenAPI document cannot be written: " + err.Error()) // a fault of this program, at its start
	}
	return out
}

// neverNull says that lists are never null: noNulls sees to it.
func neverNull(s *huma.Schema) {
	if s == nil {
		return
	}
	s.Nullable = s.Nullable && s.Type != huma.TypeArray
	neverNull(s.Items)
	for _, p := range s.Properties {
		neverNull(p)
	}
}

{{/* Checks that a JSON schema cannot express. Each message names the key. */}}
{{- define "kommuna.validate" -}}
{{- $root := . -}}
{{- $namespaces := dict .Release.Namespace "the control plane" -}}
{{- range $team, $spec := .Values.teams -}}
  {{- $namespace := include "kommuna.namespace" (dict "root" $root "team" $team) -}}
  {{- with get $namespaces $namespace -}}
    {{- fail (printf "teams.%s.namespace: '%s' is taken by %s: give each team its own" $team $namespace .) -}}
  {{- end -}}
  {{- $_ := set $namespaces $namespace (printf "team %s" $team) -}}
  {{- if not ($spec.repository | default $root.Values.repository) -}}
    {{- fail (printf "teams.%s.repository: the team has no Git repository: name it here, or one for all teams at `repository`" $team) -}}
  {{- end -}}
  {{- $quota := (include "kommuna.team" (dict "root" $root "team" $team) | fromJson).quota -}}
  {{- $task := include "kommuna.task" $root | fromJson -}}
  {{- if lt (include "kommuna.millicores" $quota.cpu | int64) (include "kommuna.millicores" $task.cpu | int64) -}}
    {{- fail (printf "teams.%s.quota.cpu: %s has no room for one task (%s core)" $team $quota.cpu $task.cpu) -}}
  {{- end -}}
  {{- if lt (include "kommuna.bytes" $quota.disk | int64) (include "kommuna.bytes" (get $task "ephemeral-storage") | int64) -}}
    {{- fail (printf "teams.%s.quota.disk: %s has no room for one task (%s)" $team $quota.disk (get $task "ephemeral-storage")) -}}
  {{- end -}}
  {{- if lt (include "kommuna.bytes" $quota.memory | int64) (include "kommuna.bytes" $task.memory | int64) -}}
    {{- fail (printf "teams.%s.quota.memory: %s has no room for one task (%s)" $team $quota.memory $task.memory) -}}
  {{- end -}}
{{- end -}}
{{- if .Values.network.enabled -}}
  {{- if and .Values.teams (not .Values.network.store) -}}
    {{- fail "network.store: name the addresses of the object store: {to: [{ipBlock: {cidr: …}}], ports: [{port: 443, protocol: TCP}]}" -}}
  {{- end -}}
  {{- if and .Values.teams (not .Values.network.kubernetes) -}}
    {{- fail "network.kubernetes: name the addresses of the Kubernetes API, as for network.store (kubectl get endpointslices kubernetes): the API server reads the logs of running tasks from it" -}}
  {{- end -}}
  {{- if and .Values.database_secret (not .Values.network.database) -}}
    {{- fail "network.database: name the addresses of the PostgreSQL of database_secret: {to: [{ipBlock: {cidr: …}}], ports: [{port: 5432, protocol: TCP}]}" -}}
  {{- end -}}
  {{- if and (eq .Values.auth.kind "keycloak") (not .Values.network.keycloak) -}}
    {{- fail "network.keycloak: name the addresses of Keycloak: {to: [{ipBlock: {cidr: …}}], ports: [{port: 443, protocol: TCP}]}" -}}
  {{- end -}}
{{- end -}}
{{- if and .Values.database_secret .Values.postgresql.enabled -}}
  {{- fail "postgresql.enabled: set it to false where database_secret names an external PostgreSQL" -}}
{{- end -}}
{{- if not (or .Values.database_secret .Values.postgresql.enabled) -}}
  {{- fail "database_secret: name the Secret of an external PostgreSQL, or set postgresql.enabled" -}}
{{- end -}}
{{- range .Values.images.pull_secrets -}}
  {{- if has . (list "worker" "parser" (include "kommuna.llmSecret" $root)) -}}
    {{- fail (printf "images.pull_secrets: '%s' is the name of a Secret of the platform's own in the teams' namespaces: rename it" .) -}}
  {{- end -}}
{{- end -}}
{{- $variables := dict -}}
{{- range $name, $endpoint := .Values.llm -}}
{{- if $endpoint -}}
  {{- if kindIs "invalid" $endpoint.teams -}}
    {{- fail (printf "llm.%s.teams: name the teams whose workers get the way to it, and its key" $name) -}}
  {{- end -}}
  {{- range $endpoint.teams -}}
    {{- if not (hasKey $root.Values.teams .) }}{{ fail (printf "llm.%s.teams: there is no team '%s' in `teams`" $name .) }}{{ end -}}
  {{- end -}}
  {{- if and $root.Values.network.enabled $endpoint.teams (not $endpoint.door) -}}
    {{- fail (printf "llm.%s.door: name the addresses of the endpoint, or of its proxy: {to: [{ipBlock: {cidr: …}}], ports: [{port: 443, protocol: TCP}]}" $name) -}}
  {{- end -}}
  {{- if and $endpoint.key_variable (not $endpoint.secret) -}}
    {{- fail (printf "llm.%s.secret: name the Secret with the key for %s: {name: …, key: …}" $name $endpoint.key_variable) -}}
  {{- end -}}
  {{- if and $endpoint.secret (not $endpoint.key_variable) -}}
    {{- fail (printf "llm.%s.key_variable: name the environment variable that the key from Secret '%s' fills" $name $endpoint.secret.name) -}}
  {{- end -}}
  {{- if $endpoint.secret -}}
    {{- if ne (toJson $endpoint.secret) (toJson (get $variables $endpoint.key_variable | default $endpoint.secret)) -}}
      {{- fail (printf "llm.%s.key_variable: '%s' holds another endpoint's key" $name $endpoint.key_variable) -}}
    {{- end -}}
    {{- $_ := set $variables $endpoint.key_variable $endpoint.secret -}}
  {{- end -}}
{{- end -}}
{{- end -}}
{{- if eq .Values.auth.kind "keycloak" -}}
  {{- range $key := list "url" "realm" "secret" "admin_secret" -}}
    {{- if not (get $root.Values.auth $key) -}}
      {{- fail (printf "auth.%s: with `kind: keycloak` it is needed" $key) -}}
    {{- end -}}
  {{- end -}}
{{- end -}}
{{- range $team, $spec := .Values.teams -}}
  {{- if and (eq $root.Values.auth.kind "keycloak") $spec.people -}}
    {{- fail (printf "teams.%s.people: with Keycloak people come by groups: put them into /%s/%s/ROLE, or name groups in teams.%s.groups" $team $root.Values.auth.client $team $team) -}}
  {{- end -}}
  {{- if and (ne $root.Values.auth.kind "keycloak") $spec.groups -}}
    {{- fail (printf "teams.%s.groups: groups are Keycloak's: set auth.kind to keycloak, or name people in teams.%s.people" $team $team) -}}
  {{- end -}}
{{- end -}}
{{- if and .Values.ingress.enabled (not .Values.ingress.host) -}}
  {{- fail "ingress.host: name the host that the Ingress answers to" -}}
{{- end -}}
{{- end }}

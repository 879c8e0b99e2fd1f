{{/* Names and labels. */}}
{{- define "kommuna.labels" -}}
app.kubernetes.io/name: kommuna
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .component }}
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
{{- with .team }}
kommuna/team: {{ . }}
{{- end }}
{{- end }}

{{- define "kommuna.selector" -}}
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .component }}
{{- end }}

{{/* A team with its defaults, as JSON. Takes root and team. */}}
{{- define "kommuna.team" -}}
{{- mergeOverwrite (include "kommuna.teamDefaults" . | fromJson) (get .root.Values.teams .team | deepCopy) | toJson -}}
{{- end }}

{{/* A team's namespace: the one of its entry, or RELEASE-TEAM. Takes root and team. */}}
{{- define "kommuna.namespace" -}}
{{- $spec := get .root.Values.teams .team -}}
{{- $spec.namespace | default (printf "%s-%s" .root.Release.Name .team) -}}
{{- end }}

{{- define "kommuna.host" -}}
{{ .root.Release.Name }}-{{ .name }}.{{ .root.Release.Namespace }}.svc
{{- end }}

{{/* The addresses of the Execution API and of MLflow for workers. */}}
{{- define "kommuna.execution" -}}
http://{{ include "kommuna.host" (dict "root" . "name" "api-server") }}:8080/execution/
{{- end }}
{{- define "kommuna.mlflow" -}}
http://{{ include "kommuna.host" (dict "root" . "name" "mlflow") }}:5000
{{- end }}

{{/* A team's repository: its own, or the platform's. */}}
{{- define "kommuna.repository" -}}
{{- $spec := get .root.Values.teams .team -}}
{{- with $spec.repository | default .root.Values.repository }}{{ mergeOverwrite (include "kommuna.repositoryDefaults" . | fromJson) (deepCopy .) | toYaml }}{{ end -}}
{{- end }}

{{/* A team's DAG bundle in Airflow's configuration. Takes root and team. */}}
{{- define "kommuna.bundle" -}}
{{- $spec := get .root.Values.teams .team -}}
{{- $repository := include "kommuna.repository" . | fromYaml -}}
{{- $kwargs := dict "repo_url" $repository.url "tracking_ref" $repository.ref "subdir" $spec.bundle "refresh_interval" 10 -}}
{{- if $repository.secret }}{{ $_ := set $kwargs "git_conn_id" (printf "%s__git" .team) }}{{ end -}}
{{- dict "name" .team "classpath" "kommuna.airflow.bundles.TeamGitBundle" "kwargs" $kwargs "team_name" .team | toJson -}}
{{- end }}

{{/* The same for its workers, which get the folder of a run's commit from the store. Takes root and team. */}}
{{- define "kommuna.publishedBundle" -}}
{{- $spec := get .root.Values.teams .team -}}
{{- dict "name" .team "classpath" "kommuna.airflow.bundles.PublishedBundle" "kwargs" (dict "subdir" $spec.bundle) "team_name" .team | toJson -}}
{{- end }}

{{/* Every team's bundles, as a JSON list. */}}
{{- define "kommuna.bundles" -}}
{{- $root := . -}}
[{{ range $index, $team := keys .Values.teams | sortAlpha }}{{ if $index }}, {{ end -}}
{{ include "kommuna.bundle" (dict "root" $root "team" $team) }}, {{ include "kommuna.checkBundle" $team }}{{ end }}]
{{- end }}

{{/* kommuna.yaml for the teams of a list: the control plane sees all of them, a team's pods only their own. */}}
{{- define "kommuna.platform" -}}
{{- $root := .root -}}
{{- $teams := dict -}}
{{- range .teams }}{{ $_ := set $teams . (get $root.Values.teams .) }}{{ end -}}
{{- $neighbours := list -}}
{{- range keys $root.Values.teams | sortAlpha }}{{ if not (hasKey $teams .) }}{{ $neighbours = append $neighbours . }}{{ end }}{{ end -}}
{{- $platform := dict "teams" $teams "neighbours" $neighbours "store" $root.Values.store "mlflow" (include "kommuna.mlflow" $root) "task_request_limit" $root.Values.task_request_limit -}}
{{- with $root.Values.ingress }}{{ if and .enabled .mlflow_host }}{{ $_ := set $platform "mlflow_pages" (printf "%s://%s" (ternary "https" "http" (ne .tls_secret "")) .mlflow_host) }}{{ end }}{{ end -}}
{{- if $root.Values.repository }}{{ $_ := set $platform "repository" $root.Values.repository }}{{ end -}}
{{- if $root.Values.store_options }}{{ $_ := set $platform "store_options" $root.Values.store_options }}{{ end -}}
{{- with include "kommuna.llms" . | fromJson }}{{ $_ := set $platform "llm" . }}{{ end -}}
{{- toYaml $platform -}}
{{- end }}

{{/* The LLM endpoints that teams of a list may use, each with those teams alone, as JSON. Takes root and teams. */}}
{{- define "kommuna.llms" -}}
{{- $llms := dict -}}
{{- range $name, $endpoint := .root.Values.llm -}}
  {{- $named := list -}}
  {{- range $team := ($endpoint | default dict).teams }}{{ if has $team $.teams }}{{ $named = append $named $team }}{{ end }}{{ end -}}
  {{- if $named }}{{ $_ := set $llms $name (set (deepCopy $endpoint) "teams" $named) }}{{ end -}}
{{- end -}}
{{- toJson $llms -}}
{{- end }}

{{/* Secrets with the API keys of the LLMs that a team may use, by environment variable, as JSON. Takes root and team. */}}
{{- define "kommuna.llmSecrets" -}}
{{- $secrets := dict -}}
{{- range include "kommuna.llms" (dict "root" .root "teams" (list .team)) | fromJson -}}
{{- if .secret }}{{ $_ := set $secrets .key_variable .secret }}{{ end -}}
{{- end -}}
{{- toJson $secrets -}}
{{- end }}

{{/* The name of a Secret: the one that the values name, or the chart's own. */}}
{{- define "kommuna.databaseSecret" -}}
{{ .Values.database_secret | default (printf "%s-database" .Release.Name) }}
{{- end }}
{{- define "kommuna.passwordsSecret" -}}
{{ .Values.passwords_secret | default (printf "%s-passwords" .Release.Name) }}
{{- end }}

{{/* Everyone who has a password of the platform's own, as a list: the admin, each team, and each team's people. */}}
{{- define "kommuna.logins" -}}
{{- $logins := list -}}
{{- if eq .Values.auth.kind "simple" -}}
{{- $logins = list (include "kommuna.admin" .) -}}
{{- range $team, $spec := .Values.teams -}}
{{- $logins = concat $logins (list $team) (keys ($spec.people | default dict)) -}}
{{- end -}}
{{- end -}}
{{- $logins | uniq | sortAlpha | toJson -}}
{{- end }}

{{/* The same in the format of SimpleAuthManager's users: LOGIN:ROLE:TEAM|TEAM. */}}
{{- define "kommuna.users" -}}
{{- $root := . -}}
{{- $users := list -}}
{{- range $login := include "kommuna.logins" . | fromJsonArray -}}
  {{- $role := ternary "admin" "" (eq $login (include "kommuna.admin" $root)) -}}
  {{- $teams := list -}}
  {{- range $team, $spec := $root.Values.teams -}}
    {{- $said := ternary "op" (get ($spec.people | default dict) $login) (eq $login $team) -}}
    {{- if $said -}}
      {{- if and $role (ne $role $said) -}}
        {{- fail (printf "teams.%s.people.%s: the login has the role '%s' already, and has one role over all teams: rename it" $team $login $role) -}}
      {{- end -}}
      {{- $role = $said -}}
      {{- $teams = append $teams $team -}}
    {{- end -}}
  {{- end -}}
  {{- $users = append $users (join ":" (compact (list $login $role (join "|" $teams)))) -}}
{{- end -}}
{{- join "," $users -}}
{{- end }}

{{- define "kommuna.pullSecrets" -}}
{{- with .Values.images.pull_secrets }}
imagePullSecrets:
  {{- range . }}
  - name: {{ . }}
  {{- end }}
{{- end }}
{{- end }}

{{/* Environment of the control plane's Airflow processes: the keys that each uses. Takes root and component. */}}
{{- define "kommuna.airflowEnv" -}}
- name: AIRFLOW__DATABASE__SQL_ALCHEMY_CONN
  valueFrom: {secretKeyRef: {name: {{ include "kommuna.databaseSecret" .root }}, key: airflow}}
- name: AIRFLOW__CORE__FERNET_KEY
  valueFrom: {secretKeyRef: {name: {{ .root.Release.Name }}-keys, key: fernet}}
{{- if has .component (list "api-server" "scheduler") }} {{/* who checks tokens of tasks, and who makes them */}}
- name: AIRFLOW__API_AUTH__JWT_SECRET
  valueFrom: {secretKeyRef: {name: {{ .root.Release.Name }}-keys, key: jwt}}
{{- end }}
{{- if has .component (list "api-server" "triggerer") }} {{/* who asks for logs, and who serves them */}}
- name: AIRFLOW__API__SECRET_KEY
  valueFrom: {secretKeyRef: {name: {{ .root.Release.Name }}-keys, key: api}}
{{- end }}
{{- end }}

{{/* The connection to a team's private repository, without the team in its name: bundles are refreshed without a team. */}}
{{- define "kommuna.gitEnv" -}}
{{- with (include "kommuna.repository" . | fromYaml).secret }}
- name: AIRFLOW_CONN_{{ upper $.team }}__GIT
  valueFrom: {secretKeyRef: {name: {{ . }}, key: connection}}
{{- end }}
{{- end }}

{{/* The S3 credentials of a Secret, as environment. */}}
{{- define "kommuna.storeEnv" -}}
{{- with .secret }}
- name: AWS_ACCESS_KEY_ID
  valueFrom: {secretKeyRef: {name: {{ . }}, key: AWS_ACCESS_KEY_ID}}
- name: AWS_SECRET_ACCESS_KEY
  valueFrom: {secretKeyRef: {name: {{ . }}, key: AWS_SECRET_ACCESS_KEY}}
{{- end }}
{{- end }}

{{- define "kommuna.resources" -}}
requests: {cpu: {{ .cpu | quote }}, memory: {{ .memory | quote }}}
limits: {memory: {{ .memory | quote }}}
{{- end }}

{{/* Converts a quantity: memory to bytes, CPU to thousandths of a core. */}}
{{- define "kommuna.bytes" -}}
{{- $units := include "kommuna.units" . | fromJson -}}
{{- mulf (regexFind "^[0-9.]+" . | float64) (get $units (regexFind "[A-Za-z]*$" .) | float64) | int64 -}}
{{- end }}
{{- define "kommuna.millicores" -}}
{{- if hasSuffix "m" . }}{{ trimSuffix "m" . | float64 | int64 }}{{ else }}{{ mulf (float64 .) 1000.0 | int64 }}{{ end -}}
{{- end }}

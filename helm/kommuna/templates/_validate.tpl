{{/* What a JSON schema cannot say. Each message names the key. */}}
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
  {{- $quota := merge (dict) ($spec.quota | default dict) (dict "cpu" "8" "memory" "16Gi" "pods" 20) -}}
  {{- if lt (include "kommuna.millicores" $quota.cpu | int64) (include "kommuna.millicores" $root.Values.parser.cpu | int64) -}}
    {{- fail (printf "teams.%s.quota.cpu: %s is less than the team's parser needs (parser.cpu: %s)" $team $quota.cpu $root.Values.parser.cpu) -}}
  {{- end -}}
  {{- if lt (include "kommuna.bytes" $quota.memory | int64) (include "kommuna.bytes" $root.Values.parser.memory | int64) -}}
    {{- fail (printf "teams.%s.quota.memory: %s is less than the team's parser needs (parser.memory: %s)" $team $quota.memory $root.Values.parser.memory) -}}
  {{- end -}}
  {{- if lt (int $quota.pods) 2 -}}
    {{- fail (printf "teams.%s.quota.pods: %d leaves no pod for a step beside the team's parser" $team (int $quota.pods)) -}}
  {{- end -}}
  {{- $repository := include "kommuna.repository" (dict "root" $root "team" $team) | fromYaml -}}
  {{- include "kommuna.requireSecret" (dict "root" $root "name" $spec.store_secret "key" (printf "teams.%s.store_secret" $team) "entries" (list "AWS_ACCESS_KEY_ID" "AWS_SECRET_ACCESS_KEY")) -}}
  {{- include "kommuna.requireSecret" (dict "root" $root "name" $repository.secret "key" (printf "teams.%s.repository.secret" $team) "entries" (list "connection")) -}}
{{- end -}}
{{- if and .Values.database_secret .Values.postgresql.enabled -}}
  {{- fail "postgresql.enabled: set it to false where database_secret names an external PostgreSQL" -}}
{{- end -}}
{{- if not (or .Values.database_secret .Values.postgresql.enabled) -}}
  {{- fail "database_secret: name the Secret of an external PostgreSQL, or set postgresql.enabled" -}}
{{- end -}}
{{- include "kommuna.requireSecret" (dict "root" . "name" .Values.database_secret "key" "database_secret" "entries" (list "airflow" "mlflow")) -}}
{{- include "kommuna.requireSecret" (dict "root" . "name" .Values.passwords_secret "key" "passwords_secret" "entries" (list "passwords.json")) -}}
{{- include "kommuna.requireSecret" (dict "root" . "name" .Values.store_secret "key" "store_secret" "entries" (list "AWS_ACCESS_KEY_ID" "AWS_SECRET_ACCESS_KEY")) -}}
{{- include "kommuna.requireSecret" (dict "root" . "name" .Values.mlflow.secret "key" "mlflow.secret" "entries" (list "AWS_ACCESS_KEY_ID" "AWS_SECRET_ACCESS_KEY")) -}}
{{- if and .Values.ingress.enabled (not .Values.ingress.host) -}}
  {{- fail "ingress.host: name the host that the Ingress answers to" -}}
{{- end -}}
{{- end }}

{{/* Refuses a Secret that the values name and the cluster lacks; says nothing where there is no cluster to ask. */}}
{{- define "kommuna.requireSecret" -}}
{{- if and .name (lookup "v1" "Namespace" "" "kube-system") -}}
  {{- $data := include "kommuna.known" (dict "namespace" .root.Release.Namespace "name" .name) | fromJson -}}
  {{- $key := .key -}}{{- $name := .name -}}{{- $namespace := .root.Release.Namespace -}}
  {{- if not $data -}}
    {{- fail (printf "%s: there is no Secret '%s' in namespace %s: create it first" $key $name $namespace) -}}
  {{- end -}}
  {{- range .entries -}}
    {{- if not (hasKey $data .) -}}
      {{- fail (printf "%s: the Secret '%s' in namespace %s has no key '%s'" $key $name $namespace .) -}}
    {{- end -}}
  {{- end -}}
{{- end -}}
{{- end }}

{{/* The path of a task's log in the store: under its team's prefix, which the DAG's id begins with. */}}
{{- define "kommuna.logPath" -}}
{{ "{{ ti.dag_id.split('__')[0] }}/logs/dag_id={{ ti.dag_id }}/run_id={{ ti.run_id }}/task_id={{ ti.task_id }}/{% if ti.map_index >= 0 %}map_index={{ ti.map_index }}/{% endif %}attempt={{ try_number|default(ti.try_number) }}.log" }}
{{- end }}

{{/* The bundle of the check that `helm test` runs for a team, from the images. */}}
{{- define "kommuna.checkBundle" -}}
{{- dict "name" (printf "%s-check" .) "classpath" "airflow.dag_processing.bundles.local.LocalDagBundle" "kwargs" (dict "path" "/opt/kommuna/kommuna/airflow/checks") "team_name" . | toJson -}}
{{- end }}

{{/* A team's worker pod: no database, no Fernet key, no service account token. Takes root and team. */}}
{{- define "kommuna.worker" -}}
apiVersion: v1
kind: Pod
metadata:
  name: worker
  labels:
    {{- include "kommuna.labels" (dict "root" .root "component" "worker" "team" .team) | nindent 4 }}
spec:
  {{- $launches := (include "kommuna.team" . | fromJson).own_images }}
  serviceAccountName: {{ ternary "launcher" "worker" $launches }}
  automountServiceAccountToken: {{ $launches }}
  {{- include "kommuna.workerPod" . | nindent 2 }}
  terminationGracePeriodSeconds: 30
  securityContext:
    {{- include "kommuna.podSecurity" . | nindent 4 }}
    fsGroup: 0
  {{- include "kommuna.pullSecrets" .root | nindent 2 }}
  containers:
    - name: base
      image: {{ .root.Values.images.steps }}
      imagePullPolicy: {{ .root.Values.images.pull_policy }}
      securityContext:
        {{- include "kommuna.containerSecurity" . | nindent 8 }}
      env:
        - {name: KOMMUNA_PLATFORM, value: /etc/kommuna/kommuna.yaml}
        - {name: KOMMUNA_TEAM, value: {{ .team }}}
        - {name: AIRFLOW__CORE__MULTI_TEAM, value: "True"}
        - {name: AIRFLOW__API__BASE_URL, value: {{ .root.Values.url | quote }}}
        - {name: AIRFLOW__CORE__EXECUTION_API_SERVER_URL, value: "{{ include "kommuna.execution" .root }}"}
        {{- range $name, $value := include "kommuna.waitingSettings" . | fromJson }}
        - {name: {{ $name }}, value: {{ $value | quote }}}
        {{- end }}
        - name: AIRFLOW__DAG_PROCESSOR__DAG_BUNDLE_CONFIG_LIST
          value: {{ printf "[%s, %s]" (include "kommuna.publishedBundle" .) (include "kommuna.checkBundle" .team) | quote }}
        - {name: AIRFLOW__DAG_PROCESSOR__DAG_BUNDLE_STORAGE_PATH, value: /airflow/bundles}
        - {name: AIRFLOW__LOGGING__BASE_LOG_FOLDER, value: /airflow/logs}
        - {name: AIRFLOW__LOGGING__LOGGING_CONFIG_CLASS, value: kommuna.airflow.server.task_logs.LOGGING_CONFIG}
        {{- range $variable, $_ := include "kommuna.llmSecrets" . | fromJson }}
        - name: {{ $variable }}
          valueFrom: {secretKeyRef: {name: {{ include "kommuna.llmSecret" $ }}, key: {{ $variable }}}}
        {{- end }}
      {{- include "kommuna.workerContainer" . | nindent 6 }}
      resources:
        requests: {{ include "kommuna.task" . }}
        limits: {{ include "kommuna.task" . }}
      volumeMounts:
        - {name: platform, mountPath: /etc/kommuna}
        - {name: work, mountPath: /airflow}
        - {name: tmp, mountPath: /tmp}
  volumes:
    - name: platform
      configMap: {name: platform}
    - name: work
      emptyDir: {sizeLimit: {{ .root.Values.team_pods.volume }}}
    - name: tmp
      emptyDir: {sizeLimit: {{ .root.Values.team_pods.volume }}}
{{- end }}
